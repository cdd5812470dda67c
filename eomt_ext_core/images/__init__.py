"""Reading and writing of images, videos and labels."""

from eomt_ext_core.images.decoder import decode, decode_rgb, read_label_values, read_rgb, read_unchanged
from eomt_ext_core.images.encoder import write_image
from eomt_ext_core.images.inputs import IMAGE_SUFFIXES, VIDEO_SUFFIXES, images_among, is_input, kind_of, list_images
from eomt_ext_core.images.limits import DEFAULT_LIMITS, ImageLimits
from eomt_ext_core.images.video_reader import VideoReader
from eomt_ext_core.images.video_writer import VideoWriter

__all__ = [
    "DEFAULT_LIMITS",
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "ImageLimits",
    "VideoReader",
    "VideoWriter",
    "decode",
    "decode_rgb",
    "images_among",
    "is_input",
    "kind_of",
    "list_images",
    "read_label_values",
    "read_rgb",
    "read_unchanged",
    "write_image",
]
