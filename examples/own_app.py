"""The service within a FastAPI application of your own: uvicorn own_app:app

The captions page is then at /speech/, and streams connect to /speech/speechtotext/v1/stream.
"""

from fastapi import FastAPI

from speechbridge.server import create_app

speech = create_app()
app = FastAPI(lifespan=lambda _: speech.router.lifespan_context(speech))  # it runs the embedded recognizer
app.mount("/speech", speech)


@app.get("/")
def hello() -> str:
    return "the captions are at /speech/"
