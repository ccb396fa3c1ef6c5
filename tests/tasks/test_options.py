"""A manifest's options are known to their task, on the author's side by name and on the instance by type."""

from typing import Any

import pytest

from model_api.errors import Refused
from model_api.repository.known_tasks import TASKS
from model_api.tasks import find_task
from model_api.tasks.options import read_options


@pytest.mark.parametrize("name", TASKS)
def test_authors_and_instances_know_the_same_options(name: str) -> None:
    assert set(TASKS[name].options) == set(find_task(name).options.model_fields)


@pytest.mark.parametrize("name", TASKS)
def test_every_option_says_what_it_is_for(name: str) -> None:
    assert all(field.description for field in find_task(name).options.model_fields.values())


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        ("embedding", {"poolin": "mean"}, r"unknown option 'poolin', did you mean 'pooling'\?"),
        ("embedding", {"pooling": "middle"}, "option pooling: input should be 'cls'"),
        ("embedding", {"truncate": "true"}, "option truncate: input should be a valid boolean"),
        ("embedding", {"max_tokens": 0}, "option max_tokens: input should be greater than or equal to 1"),
        ("embedding", {"precision": "int4"}, "option precision"),
        ("text-classification", {"labels": "a,b"}, "option labels: input should be a valid list"),
        ("text-classification", {"labels": []}, "option labels"),
        ("summarization", {"engine": "fast"}, "option engine"),
        ("summarization", {"precision": "bfloat16"}, "option precision"),
        ("summarization", {"int8_min_cosine": 0.9}, "unknown option 'int8_min_cosine'"),
        ("extractive-summarization", {"max_sentences": 1000}, "option max_sentences"),
    ],
)
def test_an_option_that_a_task_does_not_know_is_refused(task: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=rf"manifest\.json: .*{words}"):
        read_options(find_task(task).options, options)


def test_options_that_are_known_are_read() -> None:
    read = read_options(find_task("embedding").options, {"pooling": "mean", "unload_first": True})
    assert read.model_dump(exclude_defaults=True) == {"pooling": "mean", "unload_first": True}
