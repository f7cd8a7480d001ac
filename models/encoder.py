"""The text encoder of both text rankers: a BERT, small and new, or a checkpoint.

Safetensors only, never code that a checkpoint brings along, and no server is asked: a name of the
hub is found where `hf download` put it on this machine.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from models.recipes import Encoder
from models.tokens import CLS, MASK, PAD, SEP, UNKNOWN, Sequences, SpecialTokens, special_tokens

WEIGHTS = "weights.safetensors"
FEED_FORWARD = 4
# Scores are not told apart where padding or the order of sums could have made the difference.
SCORE_DECIMALS = 5
TOKENS_PER_SCORED_BATCH = 16_384


def encoder_config(
    encoder: Encoder, n_vocabulary: int, special: SpecialTokens, *, n_segments: int = 2
) -> BertConfig:
    """Configuration of the BERT that a recipe asks for.

    Raises:
        ValueError: the checkpoint is no BERT, or of another vocabulary.
    """
    if encoder.checkpoint is None:
        return BertConfig(
            vocab_size=n_vocabulary,
            hidden_size=encoder.width,
            num_hidden_layers=encoder.n_layers,
            num_attention_heads=encoder.n_heads,
            intermediate_size=FEED_FORWARD * encoder.width,
            hidden_dropout_prob=encoder.dropout,
            attention_probs_dropout_prob=encoder.dropout,
            max_position_embeddings=max(
                512, encoder.max_query_tokens + encoder.max_note_tokens + 3
            ),
            type_vocab_size=n_segments,
            pad_token_id=special.pad,
        )
    config = AutoConfig.from_pretrained(
        encoder.checkpoint, local_files_only=True, trust_remote_code=False
    )
    if not isinstance(config, BertConfig):
        raise ValueError(f"{encoder.checkpoint} is a {config.model_type}; a BERT is needed")
    if config.vocab_size < n_vocabulary:
        raise ValueError(
            f"{encoder.checkpoint} has {config.vocab_size} tokens, its tokenizer {n_vocabulary}"
        )
    return config


def new_bert(encoder: Encoder, config: BertConfig) -> BertModel:
    """The BERT with the checkpoint's weights, or with random ones."""
    if encoder.checkpoint is None:
        return BertModel(config, add_pooling_layer=False)
    model: BertModel = BertModel.from_pretrained(
        encoder.checkpoint,
        add_pooling_layer=False,
        use_safetensors=True,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
    )
    return model


def checkpoint_tokenizer(checkpoint: str) -> tuple[Tokenizer, SpecialTokens]:
    """The tokenizer of a checkpoint.

    Raises:
        ValueError: it has none of the tokens that begin and end a sequence.
        OSError: nothing of this name is here.
    """
    tokenizer = AutoTokenizer.from_pretrained(
        checkpoint, local_files_only=True, trust_remote_code=False
    )
    names = (tokenizer.pad_token, tokenizer.cls_token, tokenizer.sep_token)
    if None in names:
        raise ValueError(f"the tokenizer of {checkpoint} has no [CLS], [SEP] or [PAD]")
    return tokenizer.backend_tokenizer, special_tokens(tokenizer.backend_tokenizer, *names)


def save(
    weights: dict[str, Tensor], config: BertConfig, tokenizer: Tokenizer, folder: Path, **more: Any
) -> None:
    """Write weights, config.json and the tokenizer so that transformers loads the folder.

    ``more`` goes into config.json beside what transformers reads.
    """
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    described = config.to_diff_dict() | {
        # So that AutoModel finds the weights under this name.
        "transformers_weights": WEIGHTS,
        **more,
    }
    described.pop("_name_or_path", None)
    text = json.dumps(described, indent=1, sort_keys=True)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    wrapped: Any = PreTrainedTokenizerFast
    wrapped(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        cls_token=CLS,
        sep_token=SEP,
        unk_token=UNKNOWN,
        mask_token=MASK,
    ).save_pretrained(folder)


def tensors(sequences: Sequences, device: torch.device) -> dict[str, Tensor]:
    """What a BERT of transformers is called with."""
    return {
        "input_ids": _to(sequences.token_id, device),
        "attention_mask": _to(sequences.is_token, device),
        "token_type_ids": _to(sequences.segment, device),
    }


@contextmanager
def scoring(model: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """No gradients, no dropout, and bfloat16 products on a GPU; the model's mode comes back."""
    was_training = model.training
    model.eval()
    is_cuda = device.type == "cuda"
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=is_cuda):
        try:
            yield
        finally:
            model.train(was_training)


def by_length(length: NDArray[np.int64], n_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Rows in batches of about equal length, each at most n_tokens with its padding.

    Longest first: what does not fit into memory fails at once.
    """
    order = np.argsort(-length, kind="stable")
    start = 0
    while start < len(order):
        end = start + max(1, n_tokens // max(1, int(length[order[start]])))
        yield order[start:end]
        start = end


def _to(array: NDArray[np.int64], device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device)
