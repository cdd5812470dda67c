"""Names of the stages of a frame, in order."""

RESIZE = "resize, crop"
NETWORK_AND_SCORING = "network and scoring"  # they may be one graph
STITCH = "stitch, resize"
OUTPUTS = "outputs"
