"""Every op schema of the library, in one place.

The public functions add the batch dimension, check their arguments and turn options into tensors;
the ops below see one fixed form: `B` is always there, floating inputs share a dtype (scores, maps
and gradients may already be in the accumulation dtype), biases are never missing. `eps` is the
floor on each norm. `wanted` says which gradients a backward has to compute, in the order of its
outputs; the others come back empty. Outputs are in the accumulation dtype, fp32, or fp64 for fp64.
"""

import torch

lib = torch.library.Library("vilamp_kernels", "DEF")

SCHEMAS = (
    # frames [B, N, D], queries [B, Q, D] -> [B, Q, N]
    "similarity(Tensor frames, Tensor queries, float eps) -> Tensor",
    "similarity_backward(Tensor grad, Tensor frames, Tensor queries, float eps)"
    " -> (Tensor, Tensor)",
    # frames [B, N, D], scores [B, Q, N], lengths [B] -> indices [B, Q, k], count [B, Q]
    "select_keyframes(Tensor frames, Tensor scores, SymInt k, float tau, float? min_score,"
    " bool fill, Tensor? lengths, float eps) -> (Tensor, Tensor)",
    # frames uint8 [n, H, W, 3] -> for each target [n, 3, h, w]; geometry holds six numbers per
    # target: height and width of the resized frame; top, left, h and w of the part that is kept.
    # mean and std hold three
    "preprocess_frames(Tensor frames, SymInt[] geometry, float[] mean, float[] std,"
    " ScalarType dtype) -> Tensor[]",
    # a [m, k], b [k, n] -> [m, n], in full fp32 whatever the process allows its own products
    "_product(Tensor a, Tensor b) -> Tensor",
    # mask [..., N] -> [..., N]
    "fill_keyframes(Tensor mask, SymInt k) -> Tensor",
    # indices [B, Q, K] -> [B, Q, n]
    "reference_frames(Tensor indices, SymInt n, str policy) -> Tensor",
    # patches [B, N, M, C], queries [B, Q, C], references [B, R, M, C], assignment [B, Q, N]
    # -> tokens [B, Q, N, C], weights [B, Q, N, M] ([B, Q, N, 0] when not wanted)
    "differential_pool(Tensor patches, Tensor queries, Tensor references, Tensor assignment,"
    " Tensor alpha, Tensor lam, float eps, bool return_weights) -> (Tensor, Tensor)",
    # -> gradients of patches, queries, references, alpha, lam
    "differential_pool_backward(Tensor grad_tokens, Tensor grad_weights, Tensor patches,"
    " Tensor queries, Tensor references, Tensor assignment, Tensor alpha, Tensor lam, float eps,"
    " bool[] wanted) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    # the same with queries [B, Q, D], w_iq, w_ik, w_k [P, C], w_q [P, D], biases [P]
    "projected_differential_pool(Tensor patches, Tensor queries, Tensor references,"
    " Tensor assignment, Tensor w_iq, Tensor b_iq, Tensor w_ik, Tensor b_ik, Tensor w_q,"
    " Tensor b_q, Tensor w_k, Tensor b_k, Tensor alpha, Tensor lam, float eps,"
    " bool return_weights) -> (Tensor, Tensor)",
    # -> gradients of patches, queries, references, the eight map tensors, alpha, lam
    "projected_differential_pool_backward(Tensor grad_tokens, Tensor grad_weights, Tensor patches,"
    " Tensor queries, Tensor references, Tensor assignment, Tensor w_iq, Tensor b_iq, Tensor w_ik,"
    " Tensor b_ik, Tensor w_q, Tensor b_q, Tensor w_k, Tensor b_k, Tensor alpha, Tensor lam,"
    " float eps, bool[] wanted) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,"
    " Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)

for _schema in SCHEMAS:
    lib.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))
