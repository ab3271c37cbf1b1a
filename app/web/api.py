"""The two endpoints for programs. All other events of the page are private."""

from pathlib import Path

import gradio as gr

from trinas.config import DEFAULT_PRESET
from trinas.errors import Stopped, TrinasError
from trinas.zoo.bundled import list_presets

from .backend import Backend
from .components import NETWORKS
from .messages import escape
from .runner import Request

JOB = "API"


class Api:
    """The endpoints `/upscale` and `/models`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def connect(self) -> None:
        """Add the endpoints to the page. They are not visible there."""
        with gr.Row(visible=False):
            file, scale, model = gr.File(label="image"), gr.Number(4, label="scale"), gr.Textbox("", label="model")
            preset = gr.Textbox(DEFAULT_PRESET, label="preset")
            result, table = gr.File(label="result"), gr.JSON(label="models")
            gr.Button().click(self.upscale, [file, scale, model, preset], result, api_name="upscale", **NETWORKS)
            gr.Button().click(self.models, None, table, api_name="models")

    def upscale(
        self, file: str, scale: float = 4, model: str = "", preset: str = DEFAULT_PRESET,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> str:  # fmt: skip
        """Upscale an image file and return the file that the command line would write.

        Args:
            file: the image.
            scale: output pixels per input pixel, 1 to 16.
            model: a name that /models lists. Empty: chosen by the preset, the scale, and the compression of a JPEG.
            preset: fast, balanced or best.
        """
        session = self._backend.sessions.get(request.session_hash)
        stop = session.stop_request(JOB)
        stop.clear()
        try:
            wanted = Request(self._backend.runner.size(scale=scale), model=model, preset=preset)
            outcome = self._backend.runner.upscale(session, stop, Path(file), wanted)
        except (TrinasError, Stopped) as error:
            raise gr.Error(escape(error), print_exception=False) from None
        return str(outcome.job.result)

    def models(self) -> list[dict[str, object]]:
        """List the models: name, scale, presets, parameters, multiply-adds, measured PSNR and SSIM, licence."""
        return [
            {
                "name": name,
                "scale": offer.config.spec.scale,
                "presets": list_presets(name),
                "params": offer.cost.params,
                "macs": offer.cost.macs,
                "figures": {test: metrics.model_dump() for test, metrics in offer.config.metrics.items()},
                "licence": offer.config.licence,
            }
            for name, offer in self._backend.catalogue.offers().items()
        ]
