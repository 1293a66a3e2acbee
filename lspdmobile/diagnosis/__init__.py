"""Why an artifact is not what its float student is: the likeliest single cause, found by trying the usual ones.

The float student is run on a few pictures under each suspected fault, and the one whose heatmaps are nearest to the
artifact's is named, if it explains most of the difference. ``evidence`` has what is compared, ``inputs``, ``geometry``,
``outputs`` and ``weights`` the hypotheses, ``rounding`` what float16 does, ``naming`` the choice; ``description`` goes
by what a file says of itself.
"""

from lspdmobile.choices import Cause
from lspdmobile.diagnosis.description import misdescribed, misshapen
from lspdmobile.diagnosis.evidence import Evidence
from lspdmobile.diagnosis.naming import Diagnosis, diagnose

__all__ = ["Cause", "Diagnosis", "Evidence", "diagnose", "misdescribed", "misshapen"]
