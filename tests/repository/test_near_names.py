"""Names that programs changed behind their author's back."""

import pytest

from model_api.repository.near_names import rename_it


@pytest.mark.parametrize(
    "there",
    [
        *("Config.json", "CONFIG.JSON", "config.json.txt", "config (1).json", "config(2).json", "config - Copy.json"),
        *("config copy.json", "config copy 2.json", "config.json.json", "config.json.download", "Config (1).json.txt"),
    ],
)
def test_the_file_that_was_meant_is_named(there: str) -> None:
    assert rename_it("config.json", ["a.txt", there, "model.safetensors"]) == f"rename {there!r} to config.json"


@pytest.mark.parametrize("there", ["tokenizer_config.json", "my-config.json", "sub/config.json", "config.yaml", ""])
def test_other_files_are_left_alone(there: str) -> None:
    assert rename_it("config.json", [there]) == ""


def test_a_file_in_a_folder_is_looked_for_there() -> None:
    paths = ["Model.safetensors", "0_Transformer/model (1).safetensors"]
    assert rename_it("0_Transformer/model.safetensors", paths) == "rename 'model (1).safetensors' to model.safetensors"
