"""``report.html``: one self-contained page that needs no network and runs no script.

One module for each part of the page, from top to bottom: ``banner``, ``ladder``, ``parity``, ``drift``, ``joints``,
``sizes``, ``artifacts``, ``ranges``, ``background``. Everything is put together with ``markupsafe``: what is not
``Markup`` is escaped, so no name, message or path of a run can become part of the page's code.
"""

from lspdmobile.report.html.page import render_html, write_html

__all__ = ["render_html", "write_html"]
