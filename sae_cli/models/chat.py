"""Messages of a chat as the text that a model was trained on: its tokenizer's template."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from jinja2 import TemplateError

from sae_cli.errors import RequestError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = list[dict[str, object]]


def chat_renderer(tokenizer: PreTrainedTokenizerBase) -> Callable[[Messages], str]:
    """The template as a function, which raises `ValueError` for messages that it cannot write.

    Raises:
        RequestError: the tokenizer has none.
    """
    if not tokenizer.chat_template:
        raise RequestError("data.chat=true: expected a tokenizer with a chat template, found none; give text instead")

    def render(messages: Messages) -> str:
        try:
            # A template may read more than text, whatever the library says of it.
            text = tokenizer.apply_chat_template(cast(list[dict[str, str]], messages), tokenize=False)
        except (TemplateError, TypeError, KeyError, AttributeError, IndexError) as error:
            raise ValueError(str(error).strip().split("\n", 1)[0] or type(error).__name__) from error
        assert isinstance(text, str), "asked not to tokenize"
        return text

    return render
