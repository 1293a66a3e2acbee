"""Methods that keep a network's accuracy under 8-bit post-training quantization.

Each makes of a float network another one with the same graph and node names, or of a plan one with other ranges. What
emits, executes and judges does not know that they were there. In the order in which they go together:

- ``equalization``: factors moved between layers, exactly; ``channels`` says where, ``noise_model`` how far,
  ``exactness`` proves it.
- ``rounding``: each weight up or down for its layer's output; ``rounding_search`` is one layer's part.
- ``bias_correction``: a layer's mean error into its bias.
- ``range_tuning``: activation ranges by gradient descent on the heatmaps.
- ``output_scales``: says what one scale for all heatmaps costs; changes nothing.

``preparing`` runs them; ``layers``, ``lockstep`` and ``simulated`` are what they share.
"""

from quantization.methods.preparing import DEFAULT_METHODS, Method, Prepared, parse_methods, prepare

__all__ = ["DEFAULT_METHODS", "Method", "Prepared", "parse_methods", "prepare"]
