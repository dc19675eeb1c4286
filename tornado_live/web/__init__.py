"""The page at `/` and the JavaScript client, as static files.

`static/live.js` is the client and needs nothing else; `index.html`, `page.js` and `style.css` are the
page. No inline script or style: `Content-Security-Policy: default-src 'none'; script-src 'self';
style-src 'self'; img-src 'self'; connect-src 'self'` is enough for all of it.
"""

from pathlib import Path


def static_path() -> Path:
    """The folder to serve at `static/`; its `index.html` is also the page at `/`."""
    return Path(__file__).parent / "static"
