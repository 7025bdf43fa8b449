"""Small Triton kernels with known results, and copies that are broken on purpose."""

import triton
import triton.language as tl


@triton.jit
def add(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = o < n
    b_x = tl.load(x_ptr + o, mask=m, other=0.0)
    tl.store(out_ptr + o, b_x + tl.load(y_ptr + o, mask=m, other=0.0), mask=m)


@triton.jit
def add_wrong_mask(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = o < n
    b_x = tl.load(x_ptr + o, mask=m, other=0.0)
    tl.store(out_ptr + o, b_x + tl.load(y_ptr + o, mask=o <= n, other=0.0), mask=m)


@triton.jit
def add_off_by_one(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = o < n
    b_x = tl.load(x_ptr + o, mask=m, other=0.0)
    tl.store(out_ptr + o + 1, b_x + tl.load(y_ptr + o, mask=m, other=0.0), mask=m)


@triton.jit
def softmax(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    i_row = tl.program_id(0).to(tl.int64)
    o = tl.arange(0, BLOCK)
    b_x = tl.load(x_ptr + i_row * columns + o, mask=o < columns, other=float("-inf"))
    b_e = tl.exp(b_x.to(tl.float32) - tl.max(b_x, 0).to(tl.float32))
    tl.store(out_ptr + i_row * columns + o, b_e / tl.sum(b_e, 0), mask=o < columns)


@triton.jit
def row_sums(x_ptr, scale_ptr, out_ptr, rows, columns, BLOCK_R: tl.constexpr, BLOCK: tl.constexpr):
    o_r = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    b_sum = tl.zeros((BLOCK_R,), tl.float32)
    for start in range(0, columns, BLOCK):
        o = start + tl.arange(0, BLOCK)
        m = (o_r < rows)[:, None] & (o < columns)[None, :]
        b_x = tl.load(x_ptr + o_r[:, None] * columns + o[None, :], mask=m, other=0.0)
        b_sum += tl.sum(b_x.to(tl.float32), 1)
    if scale_ptr is not None:
        b_sum *= tl.load(scale_ptr)
    tl.store(out_ptr + o_r, b_sum, mask=o_r < rows)


@triton.jit
def row_argmax(x_ptr, best_ptr, where_ptr, columns, BLOCK: tl.constexpr):
    i_row = tl.program_id(0).to(tl.int64)
    o = tl.arange(0, BLOCK)
    b_x = tl.load(x_ptr + i_row * columns + o, mask=o < columns, other=float("-inf"))
    b_best, i_best = tl.max(b_x, 0, return_indices=True)
    tl.store(best_ptr + i_row, b_best)
    tl.store(where_ptr + i_row, i_best.to(tl.int64))


@triton.jit
def histogram(x_ptr, counts_ptr, total_ptr, n, BLOCK: tl.constexpr):
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = o < n
    b_x = tl.load(x_ptr + o, mask=m, other=0)
    tl.atomic_add(counts_ptr + b_x, 1, mask=m)
    tl.atomic_add(total_ptr, tl.sum(b_x.to(tl.float32), 0))


@triton.jit
def matmul(
    a_ptr,
    b_ptr,
    out_ptr,
    rows,
    columns,
    depth,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):
    o_r = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    o_c = tl.program_id(1).to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)
    b_out = tl.zeros((BLOCK_R, BLOCK_C), ACC)
    for start in range(0, depth, BLOCK_D):
        o_d = start + tl.arange(0, BLOCK_D)
        m_a = (o_r < rows)[:, None] & (o_d < depth)[None, :]
        b_a = tl.load(a_ptr + o_r[:, None] * depth + o_d[None, :], mask=m_a, other=0)
        m_b = (o_d < depth)[:, None] & (o_c < columns)[None, :]
        b_b = tl.load(b_ptr + o_d[:, None] * columns + o_c[None, :], mask=m_b, other=0)
        b_out = tl.dot(b_a, b_b, b_out, input_precision=PRECISION, out_dtype=ACC)
    m_out = (o_r < rows)[:, None] & (o_c < columns)[None, :]
    tl.store(out_ptr + o_r[:, None] * columns + o_c[None, :], b_out, mask=m_out)


@triton.jit(do_not_specialize=["row"])
def copy_row(x_ptr, out_ptr, row, columns, BLOCK: tl.constexpr):
    o = tl.arange(0, BLOCK)
    b_x = tl.load(x_ptr + row.to(tl.int64) * columns + o, mask=o < columns)
    tl.store(out_ptr + o, b_x, mask=o < columns)


@triton.jit(do_not_specialize=["row"])
def copy_row_int32(x_ptr, out_ptr, row, columns, BLOCK: tl.constexpr):
    o = tl.arange(0, BLOCK)
    b_x = tl.load(x_ptr + row * columns + o, mask=o < columns)
    tl.store(out_ptr + o, b_x, mask=o < columns)
