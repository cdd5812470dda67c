"""Where the time of a frame goes: names of the stages that it passes through, in order."""

RESIZE = "resize, crop"
NETWORK_AND_SCORING = "network and scoring"  # they may be one graph
STITCH = "stitch, resize"
OUTPUTS = "outputs"
