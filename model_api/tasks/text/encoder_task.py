"""What the tasks on an encoder have in common."""

from pathlib import Path
from typing import TYPE_CHECKING

from model_api.repository.loaded_files import reader_of
from model_api.repository.manifest import Manifest
from model_api.repository.sentence_modules import transformer_folder
from model_api.tasks.contract import Task

if TYPE_CHECKING:
    from model_api.compute.encoder_shape import EncoderShape


class EncoderTask(Task):
    def shape(self, folder: Path, manifest: Manifest, precision: str) -> "EncoderShape | None":
        from model_api.compute.load_encoder import read_shape

        return read_shape(folder / transformer_folder(*reader_of(folder)), precision, manifest.size_bytes)
