"""Language models as networks: a decoder of the transformers library over prefixes of tokens, for a whole population.

A decoder is causal: one pass over a text gives the outputs of all its prefixes. Only prefixes that are not a prefix of
another one in the batch are passed through it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from rlnet.config import CausalLMConfig, ConfigError
from rlnet.nets.decoding import Decoding, layers_of
from rlnet.nets.module import BODY, first_parameters
from rlnet.nets.network import Network, Params
from rlnet.numerics.random_streams import Streams

CHUNK = 4096  # texts that pass through the decoder together where no gradient is asked for


@dataclass(frozen=True, eq=False)
class TokenInputs:
    """Token encoding of observations: texts of at most W tokens."""

    width: int  # W, tokens of the longest
    kinds: int  # different tokens, 0 .. kinds − 1; −1 stands behind the end of a text
    rows: Tensor | None = None  # int64 [S, W] where observations are state indices; None: they are the rows

    def of(self, obs: Tensor) -> Tensor:
        """The texts of observations, int64 [..., W]."""
        return obs.long() if self.rows is None else self.rows[obs]


def longest(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maximal texts: rows that are no prefix of another row, and for every row a maximal one that begins with it.

    Args:
        rows: int [B, W], −1 behind the end of a text.

    Returns:
        kept int64 [C], and cover int64 [B], numbers 0 .. C − 1.
    """
    ordered = np.ascontiguousarray(rows + 1, dtype=">u2")  # bytes in this order sort as texts do, prefixes first
    order = np.argsort(ordered.view(f"V{2 * rows.shape[1]}").ravel(), kind="stable")
    text = rows[order]
    continued = ((text[:-1] == text[1:]) | (text[:-1] < 0)).all(1)
    ends = np.flatnonzero(~np.append(continued, False))
    cover = np.empty(len(rows), np.int64)
    cover[order] = np.searchsorted(ends, np.arange(len(rows)))
    return order[ends], cover


def causal_lm(first: Tensor, config: CausalLMConfig, tokens: TokenInputs) -> Network:
    """Build a decoder with a linear head on the hidden state of the last token.

    Args:
        first: [outputs], added to the first bias.
        config: settings of the decoder.
        tokens: encoding of observations.

    Raises:
        ConfigError: the transformers library is not installed.
    """
    body, size = _decoder(config, tokens), config.hidden_size
    layers = layers_of(body)
    shapes = {BODY + name: tuple(value.shape) for name, value in body.named_parameters()}
    shapes |= {"weight": (size, len(first)), "bias": (len(first),)}

    def init(streams: Streams) -> Params:
        params = first_parameters(lambda: _decoder(config, tokens), streams)
        params["weight"] = ((2 * streams.uniform(*shapes["weight"]) - 1) * size**-0.5).float()
        params["bias"] = first.to(streams.device).expand(streams.members, -1).clone()
        return params

    def one(own: dict[str, Tensor], texts: Tensor) -> Tensor:
        return functional_call(body, own, (), {"input_ids": texts, "use_cache": False}).last_hidden_state

    def hidden(own: dict[str, Tensor], texts: Tensor) -> Tensor:
        """[M, C, T] → [M, C, T, H]."""
        if len(texts) == 1:  # three times as fast as vmap
            return one({name: value[0] for name, value in own.items()}, texts[0]).unsqueeze(0)
        return vmap(one)(own, texts)

    def apply(params: Params, obs: Tensor) -> Tensor:
        rows = tokens.of(obs)  # [..., M, N, W]
        shape, rows = rows.shape[:-1], rows.movedim(-3, 0).flatten(1, -2)  # [M, B, W]
        texts, cover = _covered(rows)
        own = _own(params)
        last = (rows >= 0).sum(-1) - 1  # [M, B]
        chunk = texts.shape[1] if torch.is_grad_enabled() else CHUNK
        parts = [hidden(own, part.clamp(min=0)) for part in texts.split(chunk, dim=1)]
        states = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        place = cover * states.shape[2] + last  # of each row, among all tokens of all texts
        seen = states.flatten(1, 2).gather(1, place.unsqueeze(-1).expand(-1, -1, size))
        y = torch.baddbmm(params["bias"].unsqueeze(1), seen, params["weight"])
        lead = (len(rows), *shape[:-2], shape[-1])
        return y.view(*lead, len(first)).movedim(0, -3)  # rlnet.nets: [..., M, N, outputs]

    def growing() -> Callable[[Params, Tensor], Tensor]:
        decoding = Decoding(layers, _covered)

        def apply_on(params: Params, obs: Tensor) -> Tensor:
            seen = decoding(_own(params), tokens.of(obs))
            return torch.baddbmm(params["bias"].unsqueeze(1), seen, params["weight"])

        return apply_on

    return Network(shapes, init, apply, growing=growing)


def _own(params: Params) -> dict[str, Tensor]:
    """The parameters of the decoder, by the library's names."""
    return {name.removeprefix(BODY): value for name, value in params.items() if name.startswith(BODY)}


def _covered(rows: Tensor) -> tuple[Tensor, Tensor]:
    """`longest` of each member's rows [M, B, W]: texts [M, C, T], as short as they can be, and cover [M, B]."""
    array = rows.cpu().numpy()
    if len(array) == 1 or (array == array[:1]).all():
        kept, cover = longest(array[0])
        texts, covers = array[:, kept], np.broadcast_to(cover, array.shape[:2])
    else:
        found = [longest(own) for own in array]
        most = max(len(kept) for kept, _ in found)
        # A text that is there twice changes nothing.
        texts = np.stack(
            [own[np.pad(kept, (0, most - len(kept)), "edge")] for own, (kept, _) in zip(array, found, strict=True)]
        )
        covers = np.stack([cover for _, cover in found])
    used = int((texts >= 0).sum(-1).max())
    to = rows.device
    return torch.from_numpy(texts[..., :used].copy()).to(to), torch.from_numpy(covers.copy()).to(to)


def _decoder(config: CausalLMConfig, tokens: TokenInputs) -> nn.Module:
    """A new decoder without its head, with first parameters of torch's global stream."""
    library = _transformers()
    common: dict[str, Any] = {"vocab_size": tokens.kinds, "attn_implementation": "eager", "use_cache": False}
    size, layers, heads, inner = config.hidden_size, config.layers, config.heads, config.intermediate_size
    if config.architecture == "gpt2":
        own = {"n_embd": size, "n_layer": layers, "n_head": heads, "n_inner": inner, "n_positions": tokens.width}
        dropped = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": None, "eos_token_id": None}
        return library.GPT2Model(library.GPT2Config(**common, **own, **dropped))
    own = {"hidden_size": size, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": inner}
    more = {"num_key_value_heads": heads, "max_position_embeddings": max(tokens.width, 2), "pad_token_id": None}
    return library.LlamaModel(library.LlamaConfig(**common, **own, **more, bos_token_id=None, eos_token_id=None))


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            "network=causal_lm: needs the transformers library; install it by pip install 'rlnet[llm]'"
        ) from error
    return transformers
