"""BERTScore: each token's nearest one in the other text, by an encoder's hidden states.

A score means something beside others of the same encoder and layer only, so both are named with it.
Not rescaled: the published baselines are of other encoders.

Source: Zhang et al. 2020, without idf weights.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.answers.prompt import plain

MOST_TOKENS = 510
BATCH = 32


class BertScore:
    """An encoder of transformers; its hidden states after ``layer`` layers are compared."""

    def __init__(self, model: Any, tokenizer: Any, name: str, layer: int | None = None) -> None:
        self._model = model.eval()
        self._tokenizer = tokenizer
        n_layers = int(model.config.num_hidden_layers)
        self.layer = n_layers if layer is None else layer
        if not 1 <= self.layer <= n_layers:
            raise ValueError(f"layer {layer} is not among the {n_layers} of {name}")
        self.name = f"{name}, layer {self.layer} of {n_layers}"

    @classmethod
    def from_folder(
        cls, checkpoint: str | Path, name: str, device: str = "cpu", layer: int | None = None
    ) -> "BertScore":
        """An encoder of this machine. Raises OSError when nothing of this name is here."""
        from transformers import AutoModel, AutoTokenizer

        from models.loop import device_named

        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint, local_files_only=True, trust_remote_code=False
        )
        model = AutoModel.from_pretrained(
            checkpoint, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        return cls(model.to(device_named(device)), tokenizer, name, layer)

    def f1(self, answers: Sequence[str], references: Sequence[str]) -> list[float]:
        """F1 of each pair without citations and Markdown, 0 where either text is empty."""
        found: list[float] = []
        for start in range(0, len(answers), BATCH):
            ours = self._states([plain(text) for text in answers[start : start + BATCH]])
            theirs = self._states([plain(text) for text in references[start : start + BATCH]])
            found += [_f1(a, b) for a, b in zip(ours, theirs, strict=True)]
        return found

    def _states(self, texts: Sequence[str]) -> list[Tensor]:
        """Unit vectors of each text's tokens, without the special ones."""
        most = min(MOST_TOKENS, int(self._model.config.max_position_embeddings) - 2)
        inputs = self._tokenizer(
            list(texts),
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=most,
            return_special_tokens_mask=True,
        ).to(self._model.device)
        is_word = inputs.pop("special_tokens_mask") == 0
        with torch.inference_mode():
            states = self._model(**inputs, output_hidden_states=True).hidden_states[self.layer]
        units = torch.nn.functional.normalize(states.float(), dim=-1)
        return [unit[mask] for unit, mask in zip(units, is_word, strict=True)]


def _f1(ours_TH: Tensor, theirs_SH: Tensor) -> float:
    if len(ours_TH) == 0 or len(theirs_SH) == 0:
        return 0.0
    cosine_TS = ours_TH @ theirs_SH.T
    precision = float(cosine_TS.max(dim=1).values.mean())
    recall = float(cosine_TS.max(dim=0).values.mean())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
