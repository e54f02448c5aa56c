"""
The OpenAPI document and the page that shows it, without any other server.

FastAPI's own page loads its scripts from a content delivery network, and stays
blank in a cluster without internet. The scripts are served from the package
that ships them.
"""

import importlib.util
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import FileResponse, HTMLResponse, Response

from grace.errors import ServingError
from grace.serving.gateway.problems import MEDIA_TYPE

_ASSETS = "fastapi_offline"
_FILES = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Grace gateway</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="ui"></div>
<noscript>This page needs JavaScript. The document itself: <a href="openapi.json">openapi.json</a>
</noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """window.addEventListener("load", () => {
  SwaggerUIBundle({url: "openapi.json", dom_id: "#ui", validatorUrl: null, deepLinking: true});
});
"""
_POLICY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'"
}


def add_docs(app: FastAPI) -> None:
    """
    Add the page `/docs` and its files to an application.

    Raises:
        ServingError: The package with the scripts is not installed.
    """
    folder = _assets()

    @app.get("/docs", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(_PAGE, headers=_POLICY)

    @app.get("/docs/start.js", include_in_schema=False)
    async def start() -> Response:
        return Response(_START, media_type="text/javascript")

    @app.get("/docs/swagger-ui.css", include_in_schema=False)
    async def style() -> FileResponse:
        return FileResponse(folder / "swagger-ui.css", media_type=_FILES["swagger-ui.css"])

    @app.get("/docs/swagger-ui-bundle.js", include_in_schema=False)
    async def script() -> FileResponse:
        name = "swagger-ui-bundle.js"
        return FileResponse(folder / name, media_type=_FILES[name])


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """Return the application's document; problems have the media type that they are sent with."""
    document = FastAPI.openapi(app)
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                content = response.get("content", {})
                if status >= "400" and "application/json" in content:
                    content[MEDIA_TYPE] = content.pop("application/json")
    return document


def _assets() -> Path:
    spec = importlib.util.find_spec(_ASSETS)
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(place) / "static"
        if all((folder / name).is_file() for name in _FILES):
            return folder
    raise ServingError("the scripts of the page /docs are not installed; install 'grace[gateway]'")
