"""Answers by a causal language model of transformers, greedily, in batches.

Safetensors only, no code of the checkpoint, no server asked: a name of the hub is found where
`hf download` put it on this machine.
"""

from collections.abc import Sequence
from typing import Any

import torch

from models.answers.prompt import Question

MOST_NEW_TOKENS = 512
# Of the prompt, from its end: the question stands there.
MOST_PROMPT_TOKENS = 6_144


class CausalLM:
    """A model and its tokenizer; ``name`` says which."""

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        *,
        batch_size: int = 8,
        most_new_tokens: int = MOST_NEW_TOKENS,
    ) -> None:
        self.name = name
        self.identity = f"causal-lm-1 {name} {most_new_tokens}"
        self.batch_size = batch_size
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._most_new_tokens = most_new_tokens
        # What is generated begins at one column for the whole batch.
        tokenizer.padding_side = tokenizer.truncation_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token

    @classmethod
    def from_checkpoint(cls, checkpoint: str, device: str) -> "CausalLM":
        """A checkpoint of this machine.

        Raises:
            OSError: nothing of this name is here. ValueError: it is no causal language model.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from models.loop import device_named

        place = device_named(device)
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint, local_files_only=True, trust_remote_code=False
        )
        model: Any = AutoModelForCausalLM.from_pretrained(
            checkpoint,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.bfloat16 if place.type == "cuda" else torch.float32,
        )
        return cls(checkpoint, model.to(place), tokenizer)

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """An answer to each question, the most probable token at each step."""
        prompts = [self._prompt(question) for question in questions]
        inputs = self._tokenizer(
            prompts,
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=self._most_prompt_tokens(),
            return_token_type_ids=False,
        ).to(self._model.device)
        with torch.inference_mode():
            written = self._model.generate(
                **inputs,
                max_new_tokens=self._most_new_tokens,
                do_sample=False,
                pad_token_id=self._tokenizer.pad_token_id,
            )
        new = written[:, inputs["input_ids"].shape[1] :]
        texts = self._tokenizer.batch_decode(new, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _prompt(self, question: Question) -> str:
        if not self._tokenizer.chat_template:
            return question.prompt() + "\n\n回答："
        return str(
            self._tokenizer.apply_chat_template(
                [{"role": "user", "content": question.prompt()}],
                tokenize=False,
                add_generation_prompt=True,
            )
        )

    def _most_prompt_tokens(self) -> int:
        places = getattr(self._model.config, "max_position_embeddings", None)
        room = MOST_PROMPT_TOKENS if places is None else int(places) - self._most_new_tokens
        return max(16, min(MOST_PROMPT_TOKENS, room))
