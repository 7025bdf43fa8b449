"""The mistakes of `test_broken_triton.py`: what is changed, and which checks have to notice."""

from broken_triton import Mistake, PtxMistake, narrowed

BAR = r"bar\.sync\s+0;"
WAIT = r"cp\.async\.wait_group\s+(?:0x)?\w+\s*;"
COMMIT = r"cp\.async\.commit_group\s*;"

SIMILARITY = (
    Mistake(
        *("similarity", "one frame too many", "similarity.py", "def similarity_fwd_kernel"),
        *("o_n < N", "o_n <= N"),
        quick=True,
    ),
    Mistake(
        *("similarity", "no mask of columns", "similarity.py", "def similarity_fwd_kernel"),
        *("< D - d", "< BLOCK_D"),
    ),
    narrowed(
        *("similarity", "frames", "similarity.py", "def similarity_fwd_kernel"),
        "o_n[:, :, None] * stride_f_n",
        quick=True,
    ),
    Mistake(
        *("similarity", "sums in bf16", "similarity.py", "def similarity_fwd_kernel"),
        *(
            "b_fq[i] + thread_sums(b_f * b_q, VEC)",
            "(b_fq[i] + thread_sums(b_f * b_q, VEC)).to(tl.bfloat16).to(tl.float32)",
        ),
    ),
    Mistake(
        *("dots", "wrong stride of queries", "similarity.py", "def similarity_dot_fwd_kernel"),
        *("* stride_q_q", "* D"),
    ),
    Mistake(
        *("dots", "one query too many", "similarity.py", "def similarity_dot_fwd_kernel"),
        *("o_q < Q", "o_q <= Q"),
    ),
    Mistake(
        *("similarity gradients", "the last frame left out", "similarity.py"),
        *("def similarity_bwd_queries_kernel", "tl.minimum(first + chunk, N)"),
        "tl.minimum(first + chunk, N - 1)",
    ),
    Mistake(
        *("similarity gradients", "the norm of one query for all", "similarity.py"),
        *("def _frames_and_pull", "p_q_norm += 1", "p_q_norm += 0"),
    ),
    PtxMistake(
        *("similarity", "no barrier before sums are exchanged", "similarity_fwd_kernel", BAR, ""),
    ),
)

SELECTION = (
    Mistake(
        *("select", "a frame of the next block", "selection.py", "def select_round_kernel"),
        *("o_n < last", "o_n <= last"),
    ),
    Mistake(
        *("select", "alike when equal", "selection.py", "def select_round_kernel"),
        *("b_cos > tl.cast", "b_cos >= tl.cast"),
        quick=True,
    ),
    Mistake(
        *("select", "-0 after 0", "selection.py", "def _keys"),
        *("tl.where(b_score == 0, 0.0, b_score)", "b_score"),
    ),
    # Blocks that begin when others have ended read what those left for the next round.
    Mistake(
        *("select", "the best of all rounds in one buffer", "selection.py", "def select_keyframes"),
        "torch.empty(2, b, q, blocks, dtype=torch.int64, device=device)",
        "torch.empty(1, b, q, blocks, dtype=torch.int64, device=device).expand(2, -1, -1, -1)",
        quick=True,
    ),
    narrowed(
        *("select", "frames", "selection.py", "def select_round_kernel"),
        "o_n[:, :, None] * stride_f_n",
    ),
    Mistake(
        *("select", "dropped frames stay", "selection.py", "def select_round_kernel"),
        *("m_n & (taken | alike)", "m_n & taken"),
    ),
    Mistake(
        *("select", "too few keys", "selection.py", "def select_keyframes"),
        *("torch.empty(b, q, n,", "torch.empty(b, q, n - 1,"),
        quick=True,
    ),
    Mistake(
        *("select", "the last one taken is lost", "selection.py", "def select_positions_kernel"),
        *("(b_key == TAKEN) | ((o_n == i_win) & (o_n < N))", "b_key == TAKEN"),
    ),
    PtxMistake(
        *("select", "no barrier before the best is found", "select_round_kernel", BAR, ""),
        quick=True,
    ),
    PtxMistake(
        *("select", "no mask of keys", "select_start_kernel"),
        *(r"@%p\d+ (st\.global)", r"\1"),
        quick=True,
    ),
    Mistake(
        *("fill", "slots from one on", "fill.py", "def put_positions"),
        *("tl.cumsum(b_chosen, 0) - 1", "tl.cumsum(b_chosen, 0)"),
        quick=True,
    ),
    Mistake(
        *("fill", "no gap after the last frame", "fill.py", "def _gaps"),
        *("o_gap <= count", "o_gap < count"),
    ),
    Mistake(
        *("select", "one place not padded", "fill.py", "def pad_positions"),
        *("range(count, k, BLOCK)", "range(count + 1, k, BLOCK)"),
    ),
    Mistake(
        *("fill", "wrong stride of masks", "fill.py", "def mask_positions_kernel"),
        *("i_row * stride_m_row", "i_row * N"),
    ),
    Mistake(
        *("reference frames", "a keyframe is after itself", "reference_frames.py"),
        *("def reference_frames_kernel", "<= o_n[:, None]", "< o_n[:, None]"),
        quick=True,
    ),
    Mistake(
        *("reference frames", "no mask of keyframes", "reference_frames.py"),
        *("def reference_frames_kernel", "mask=o_k < K", "mask=o_k < BLOCK_K"),
    ),
    Mistake(
        *("reference frames", "the later of two that are as near", "reference_frames.py"),
        *("def reference_frames_kernel", "b_after - o_n < o_n", "b_after - o_n <= o_n"),
    ),
)

POOLING = (
    Mistake(
        *("pool", "sums that do not shrink", "pooling.py", "def differential_pool_fwd_kernel"),
        *("acc[g * CHUNKS + i] * keep + more", "acc[g * CHUNKS + i] + more"),
        quick=True,
    ),
    Mistake(
        *("pool", "no mask of patches", "pooling.py", "def differential_pool_fwd_kernel"),
        *('logit = tl.where(m_m, logit, float("-inf"))', "logit += 0.0"),
    ),
    Mistake(
        *("pool", "wrong stride of keys", "pooling.py", "def differential_pool_fwd_kernel"),
        *("m * stride_bank_m", "m * stride_x_m"),
    ),
    narrowed(
        *("pool", "patches", "pooling.py", "def differential_pool_fwd_kernel"),
        "i_n * stride_x_n",
    ),
    Mistake(
        *("pool", "products summed in bf16", "pooling.py", "def differential_pool_fwd_kernel"),
        "added + (dots[g] + b_x * b_q.to(tl.float32),)",
        "added + ((dots[g] + b_x * b_q.to(tl.float32)).to(tl.bfloat16).to(tl.float32),)",
    ),
    Mistake(
        *("pool", "a frame that is not its own key", "pooling.py"),
        *("def differential_pool_fwd_kernel", "row[g] == -2, square", "row[g] == -3, square"),
    ),
    Mistake(
        *("pool", "parts with different scales", "pooling.py"),
        *("def differential_pool_combine_kernel", "acc += scale * tl.load", "acc += tl.load"),
    ),
    Mistake(
        *("pool", "a part left out", "pooling.py", "def differential_pool_combine_kernel"),
        *("for i in range(splits)", "for i in range(splits - 1)"),
    ),
    Mistake(
        *("pool", "weights of no patch", "pooling.py", "def softmax_rows_kernel"),
        *(
            'mask=m + o_m < M, other=float("-inf"))\n        total',
            "mask=m + o_m < M, other=0.0)\n        total",
        ),
    ),
    PtxMistake(
        *("pool", "no barrier before sums are exchanged", "differential_pool_fwd_kernel", BAR, ""),
        number=2,  # nothing comes before the first
    ),
    Mistake(
        *("pool gradients", "one question", "pooling_backward_kernels.py"),
        *("def differential_pool_bwd_patches_kernel", "acc += own * b_x", "acc = own * b_x"),
    ),
    Mistake(
        *("pool gradients", "sums that do not shrink", "pooling_backward_kernels.py"),
        *("def differential_pool_bwd_softmax_kernel", "total * keep + weight", "total + weight"),
    ),
    Mistake(
        *("pool gradients", "a frame left out", "pooling_backward_kernels.py"),
        *("def differential_pool_bwd_bank_kernel", "range(first, last)", "range(first, last - 1)"),
    ),
    narrowed(
        *("pool gradients", "frames", "pooling_backward_kernels.py"),
        *("def differential_pool_bwd_bank_kernel", "i_n * stride_x_n"),
    ),
    Mistake(
        *("pool gradients", "too little room for sums", "pooling_backward.py", "def _factors"),
        *("new_empty((b, questions, n, 3))", "new_empty((b, questions, n, 2))"),
    ),
    PtxMistake(
        *("pool gradients", "no barrier before sums", "differential_pool_bwd_patches_kernel"),
        *(BAR, ""),
    ),
)

PROJECTED = (
    Mistake(
        *("project", "no mask of columns", "maps.py", "def mapped_tile"),
        *("o_k < C - k", "o_k < BLOCK_K"),
    ),
    Mistake(
        *("project", "no bias", "maps.py", "def mapped_tile"),
        *("return b_y + tl.load(p_bias)[None, :]", "return b_y"),
    ),
    Mistake(
        *("project", "squares of no column", "maps.py", "def map_rows_kernel"),
        *("tl.where(o_p[None, :] < P, b_y * b_y, 0.0)", "b_y * b_y"),
    ),
    Mistake(
        *("project", "one part of a map for all", "maps.py", "def mapped_tile"),
        *("p_w + i_part * stride_w_part", "p_w"),
    ),
    Mistake(
        *("project", "TF32", "maps.py", "def fp32_products", '"tf32x3" if', '"tf32" if'),
    ),
    Mistake(
        *("project", "no mask of mapped columns", "projected.py", "def _cosines_with_queries"),
        *("b_y = tl.where(m_p[None, :], b_y, 0.0)", "b_y += 0.0"),
    ),
    Mistake(
        *("project", "rows past the end", "projected.py", "def projected_cosines_kernel"),
        *("tl.minimum(o_row, rows - 1)", "o_row"),
    ),
    Mistake(
        *("project", "halves of a key for each other", "projected.py", "def _cosines_with_keys"),
        *("b_left, b_right = _halves", "b_right, b_left = _halves"),
    ),
    narrowed(
        *("project", "frames", "projected.py", "def projected_cosines_kernel"),
        "o_n * stride_x_n",
    ),
    Mistake(
        *("project", "the first patches again", "pool_by_cosines.py", "def pool_by_cosines_kernel"),
        *("p_x += BLOCK_M * stride_x_m", "p_x += 0 * stride_x_m"),
    ),
    PtxMistake(
        *("project", "no wait for copies", "projected_cosines_kernel", WAIT, ""),
    ),
    PtxMistake(
        *("project", "copies that form no group", "map_rows_kernel", COMMIT, ""),
    ),
    PtxMistake(
        *("project", "no barrier after copies", "map_rows_kernel"),
        *(rf"({WAIT}\s*){BAR}", r"\1"),
    ),
    Mistake(
        *("project gradients", "a row too many", "maps.py", "def add_map_grad_kernel"),
        *("m + o_m < M", "m + o_m <= M"),
    ),
    Mistake(
        *("project gradients", "what was summed before is lost", "maps.py"),
        *("def add_map_grad_kernel", "b_out += tl.load(p_out", "b_out += 0 * tl.load(p_out"),
    ),
    Mistake(
        *("project gradients", "a key that is read where there is none"),
        *("projected_backward_kernels.py", "def projected_bwd_dots_kernel"),
        *("mask=m_p & (slot != -1)", "mask=m_p"),
    ),
    narrowed(
        *("project gradients", "frames", "projected_backward_kernels.py"),
        *("def projected_bwd_dots_kernel", "i_n * stride_x_n"),
    ),
    Mistake(
        *("project gradients", "a halved gradient", "halves.py", "def load_fp32"),
        *("b_low | b_high", "b_high"),
    ),
    Mistake(
        *("project gradients", "own key forgotten", "projected_backward_kernels.py"),
        *("def projected_bwd_rows_kernel", "by_key * b_v + of_key * b_k", "by_key * b_v"),
    ),
    Mistake(
        *("project gradients", "an unused row of the bank", "pooling_backward_kernels.py"),
        *("def differential_pool_bwd_bank_kernel", "mask=m_used", "mask=m_c"),
    ),
    Mistake(
        *("project gradients", "one norm for both maps", "pooling_backward_kernels.py"),
        *("def differential_pool_bwd_softmax_kernel", "norm_k_ptr + (i_b", "norm_ptr + (i_b"),
    ),
    Mistake(
        *("project gradients", "what others left", "projected_backward_kernels.py"),
        *("def projected_bwd_patches_kernel", "mask=m_c & (itself >= 0)", "mask=m_c"),
    ),
)

PREPROCESS = (
    Mistake(
        *("preprocess", "levels that are not clamped", "preprocess.py", "def _rounded"),
        *("tl.minimum(tl.maximum(b_sum >> BITS, 0), 255)", "b_sum >> BITS"),
        quick=True,
    ),
    Mistake(
        *("preprocess", "a digit one bit off", "preprocess.py", "def _add_rows"),
        *("out_dtype=tl.int32) << 8", "out_dtype=tl.int32) << 7"),
    ),
    Mistake(
        *("preprocess", "offset of rows in 32 bits", "preprocess.py", "def preprocess_fwd_kernel"),
        *("y_first.to(tl.int64) * stride_h", "y_first * stride_h"),
    ),
    PtxMistake(
        *("preprocess", "no barrier before bytes are exchanged", "preprocess_fwd_kernel", BAR, ""),
    ),
)

MISTAKES = (*SIMILARITY, *SELECTION, *POOLING, *PROJECTED, *PREPROCESS)
