"""Follow torch's own attention as its parts: three projections, two products, a softmax, an output projection.

`nn.MultiheadAttention` packs the weights of its projections into one tensor and calls functions, in which no layer can
be found. Here it becomes q = W_q x, k = W_k x, v = W_v x (a head is d numbers of each), softmax(q k^T / sqrt(d)) v, and
the output projection: linear layers and products, which are quantized like all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def is_plain_attention(module: nn.Module) -> bool:
    """Tell whether a module is torch's attention, without the keys that `add_bias_kv` or `add_zero_attn` append."""
    return (
        type(module) is nn.MultiheadAttention
        and module.bias_k is None
        and module.bias_v is None
        and not module.add_zero_attn
    )


@torch.no_grad()
def add_projections(net: nn.Module) -> None:
    """Give every attention of a network the linear layers q_proj, k_proj and v_proj, with copies of its weights."""
    for attention in [m for m in net.modules() if is_plain_attention(m)]:
        assert isinstance(attention, nn.MultiheadAttention)
        packed, packed_bias = attention.in_proj_weight, attention.in_proj_bias
        weights = (
            [attention.get_parameter(f"{name}_weight") for name in PROJECTIONS]
            if packed is None
            else packed.chunk(3)
        )
        for index, (name, weight) in enumerate(zip(PROJECTIONS, weights, strict=True)):
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
            source = weight if packed is None else packed
            layer.weight = nn.Parameter(weight.clone(), requires_grad=source.requires_grad)
            if packed_bias is not None:
                bias = packed_bias.chunk(3)[index].clone()
                layer.bias = nn.Parameter(bias, requires_grad=packed_bias.requires_grad)
            attention.add_module(name, layer)


def attend(  # noqa: PLR0913 (the signature is torch's)
    attention: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Compute what an attention with projections computes in evaluation mode, part by part.

    Args:
        attention: the module, see `add_projections`.
        query, key, value: (N,L,E), (N,S,K) and (N,S,V), or with the first two dimensions exchanged, as the module's
            `batch_first` says.
        key_padding_mask, attn_mask, is_causal: must not be given.
        need_weights, average_attn_weights: what is returned beside the result.

    Returns:
        The result, of the query's shape, and the weights (N,L,S), or (N,heads,L,S) unless they are averaged.

    Raises:
        ValueError: a mask is given, or the images of a batch are missing as a dimension.
    """
    if key_padding_mask is not None or attn_mask is not None or is_causal:
        raise ValueError("attention with a mask cannot be quantized")
    if query.dim() != 3:
        raise ValueError("attention of a sequence without a batch cannot be quantized")

    def split(name: str, x: Tensor) -> Tensor:
        projected: Tensor = attention.get_submodule(name)(x if attention.batch_first else x.transpose(0, 1))
        return projected.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)

    q, k, v = (split(name, x) for name, x in zip(PROJECTIONS, (query, key, value), strict=True))
    weights = torch.softmax(torch.matmul(q, k.transpose(-2, -1)) * (1 / math.sqrt(attention.head_dim)), -1)
    result = attention.out_proj(torch.matmul(weights, v).transpose(1, 2).flatten(2))
    result = result if attention.batch_first else result.transpose(0, 1)
    if not need_weights:
        return result, None
    return result, weights.mean(1) if average_attn_weights else weights


def encode(
    encoder: nn.TransformerEncoder,
    src: Tensor,
    mask: Tensor | None = None,
    src_key_padding_mask: Tensor | None = None,
    is_causal: bool | None = None,
) -> Tensor:
    """Compute what torch's stack of encoder layers computes, without its fast path; ValueError if a mask is given."""
    if mask is not None or src_key_padding_mask is not None or is_causal:
        raise ValueError("attention with a mask cannot be quantized")
    for layer in encoder.layers:
        src = layer(src)
    return src if encoder.norm is None else encoder.norm(src)


def followed(module: nn.Module) -> Callable[..., Any] | None:
    """Return the function that computes a module of torch part by part; None if it is followed in no other way."""
    if is_plain_attention(module):
        return attend
    return encode if type(module) is nn.TransformerEncoder else None
