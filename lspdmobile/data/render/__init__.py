"""A small deterministic renderer of articulated figures: pictures with exact keypoints, made of numpy alone.

The project ships no photographs of people, so its bundled pictures, its tests and its toy training runs use these. A
picture follows from one seed: pose -> body -> shapes in a depth buffer -> shading -> scene -> camera.
"""

from lspdmobile.data.render.folder import write_rendered_set
from lspdmobile.data.render.picture import RenderedPicture, render_picture

__all__ = ["RenderedPicture", "render_picture", "write_rendered_set"]
