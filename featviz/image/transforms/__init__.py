"""The robustness stack: what each picture suffers before the network sees it, drawn, then applied.

Geometric members change where a pixel is read, photometric ones its value. Neighbouring geometric
members are composed to one affine map and one resampling: nothing is blurred twice, and what one
member pushes over the edge the next may bring back. Positions and angles as in `warp`.
"""

from featviz.image.transforms.geometric import Crop, Flip, Jitter, Pad, Rotate, Scale
from featviz.image.transforms.kinds import Draws, Geometric, Photometric
from featviz.image.transforms.photometric import Blur, Noise
from featviz.image.transforms.stack import Member, Stack, lucid, standard, strong

__all__ = [
    "Blur",
    "Crop",
    "Draws",
    "Flip",
    "Geometric",
    "Jitter",
    "Member",
    "Noise",
    "Pad",
    "Photometric",
    "Rotate",
    "Scale",
    "Stack",
    "lucid",
    "standard",
    "strong",
]
