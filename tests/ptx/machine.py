"""Run compiled PTX on the CPU: an independent check of GPU kernels on machines without a GPU.

It executes the text that nvcc or Triton emitted (target sm_80 family), so it sees what the compiler made of a kernel, not the
kernel's source. Threads of a block are lanes of numpy arrays with one program counter each. Warps run in a chosen or random
order between barriers, cp.async lands only when it is waited for, shared memory starts poisoned, and every global access
is checked against the buffers that were handed over: a missing barrier, a missing wait or a bad mask shows as a wrong result
or an error.

    mod = Module(ptx_text)
    mod.launch("kernel", grid=(4, 1, 1), block=(128, 1, 1), args=[array, 7, 0.5], shared=0, order="random", seed=0)

Arrays (numpy, C-contiguous) are passed by reference and written back. Scalars take the type of the kernel's parameter.
`launch` returns counts (class Stats): what the kernel asked of memory and of the tensor cores, exact, not timed.
"""
import re
import numpy as np

from .memory import as_array, placed
from .stats import Stats

U = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
S = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
F = {16: np.float16, 32: np.float32, 64: np.float64}
WARP = 32


class PtxError(RuntimeError):
    pass


def width(t):
    if t == "pred":
        return 1
    if t in ("bf16", "f16", "bf16x2", "f16x2", "tf32"):
        return {"bf16": 16, "f16": 16, "bf16x2": 32, "f16x2": 32, "tf32": 32}[t]
    return int(re.sub(r"\D", "", t))


def bf16_to_f32(u):
    return (u.astype(np.uint32) << np.uint32(16)).view(np.float32)


def f32_to_bf16(f):
    u = np.ascontiguousarray(f, np.float32).view(np.uint32)
    r = (u + np.uint32(0x7FFF) + ((u >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    r = np.where(np.isnan(f), np.uint32(0x7FFF), r)
    return r.astype(np.uint16)


def decode(u, t):
    """Raw unsigned lanes -> values of PTX type t (for arithmetic)."""
    w = width(t)
    if t == "pred":
        return u
    if t == "bf16":
        return bf16_to_f32(u.astype(np.uint16))
    if t in ("f16",):
        return u.astype(np.uint16).view(np.float16).astype(np.float32)
    if t[0] == "f" and "x" not in t:
        return np.ascontiguousarray(u.astype(U[w])).view(F[w])
    if t[0] == "s":
        return np.ascontiguousarray(u.astype(U[w])).view(S[w])
    return u.astype(U[w])


def encode(v, t):
    w = width(t)
    if t == "pred":
        return v.astype(bool)
    if t == "bf16":
        return f32_to_bf16(np.asarray(v, np.float32))
    if t == "f16":
        return np.ascontiguousarray(np.asarray(v).astype(np.float16)).view(np.uint16)
    if t[0] == "f" and "x" not in t:
        return np.ascontiguousarray(np.asarray(v).astype(F[w])).view(U[w])
    if t[0] == "s":
        return np.ascontiguousarray(np.asarray(v).astype(S[w])).view(U[w])
    return np.asarray(v).astype(U[w])


class Function:
    def __init__(self, name):
        self.name, self.params, self.code, self.labels = name, [], [], {}
        self.shared, self.local = {}, {}


class Module:
    def __init__(self, text):
        self.functions, self.globals = {}, {}
        self._parse(text)

    # ---- reading -------------------------------------------------------------------------------------------------
    def _parse(self, text):
        text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
        text = re.sub(r"//[^\n]*", "", text)
        text = re.sub(r"^\s*\.(version|target|address_size|file|loc|section|pragma)\b[^\n]*$", "", text, flags=re.M)
        self.extern_shared = set(re.findall(r"\.extern\s+\.shared[^;\[]*?([\w$]+)\s*\[\s*\]\s*;", text))
        for m in re.finditer(r"\.(global|const)\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?\s*(?:=\s*(\{[^}]*\}|[^;]+))?;", text):
            t, name, n, init = m.group(2), m.group(3), int(m.group(4) or 1), m.group(5)
            data = np.zeros(n * max(width(t) // 8, 1), np.uint8)
            if init:
                vals = [self._imm(x.strip(), t) for x in init.strip("{}").split(",") if x.strip()]
                raw = np.array(vals).astype(U[width(t)]).view(np.uint8)
                data[: len(raw)] = raw
            self.globals[name] = data
        for m in re.finditer(r"\.shared\s+\.align\s+\d+\s+\.\w+\s+([\w$]+)\[(\d+)\];", re.sub(r"\.entry.*", "", text, flags=re.S)):
            self.globals.setdefault("@shared", {})[m.group(1)] = int(m.group(2))
        for m in re.finditer(r"\.entry\s+([\w$]+)\s*\((.*?)\)(.*?)\{", text, flags=re.S):
            body, depth, i = [], 1, m.end()
            while depth:
                c = text[i]
                depth += (c == "{") - (c == "}")
                body.append(c)
                i += 1
            self.functions[m.group(1)] = self._function(m.group(1), m.group(2), "".join(body[:-1]))

    def _imm(self, s, t):
        s = s.strip()
        if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", s):
            return int(s[2:], 16)
        if re.fullmatch(r"0[dD][0-9a-fA-F]{16}", s):
            return int(s[2:], 16)
        if re.fullmatch(r"-?\d+\.\d*(e[+-]?\d+)?", s):
            return float(s)
        return int(s.rstrip("U"), 0)

    def _function(self, name, params, body):
        f = Function(name)
        for p in filter(None, (x.strip() for x in params.split(","))):
            t = re.search(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)", p)
            n = re.findall(r"([\w$]+)(?:\[(\d+)\])?\s*$", p)[0]
            f.params.append((n[0], t.group(1), int(n[1]) if n[1] else 0))
        # protect vector braces, then treat scope braces as nothing
        out, stack = [], []
        i = 0
        while i < len(body):
            c = body[i]
            if c == "{":
                j = body.index("}", i)
                inside = body[i + 1 : j]
                if ";" not in inside and re.fullmatch(r"[\s\w%$.,+-]*", inside) and "," in inside or re.fullmatch(r"\s*%\w+\s*", inside or "x"):
                    out.append("<" + inside + ">")
                    i = j + 1
                    continue
                stack.append("{")
                out.append(" ; ")
            elif c == "}":
                out.append(" ; ")
            else:
                out.append(c)
            i += 1
        body = "".join(out)
        body = re.sub(r"([\w$]+):(?!:)", r" ; @LABEL \1 ; ", body)
        for s in body.split(";"):
            s = " ".join(s.split())
            if not s:
                continue
            if s.startswith("@LABEL"):
                f.labels[s.split()[1]] = len(f.code)
                continue
            if s.startswith(".reg"):
                continue
            m = re.match(r"\.(shared|local)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?$", s)
            if m:
                size = int(m.group(5) or 1) * max(width(m.group(3)) // 8, 1)
                (f.shared if m.group(1) == "shared" else f.local)[m.group(4)] = size
                continue
            if s.startswith("."):
                continue
            m = re.match(r"(?:@(!?)(%?[\w$]+)\s+)?([a-z][\w.:]*)\s*(.*)$", s)
            if not m:
                raise PtxError(f"cannot read: {s}")
            neg, pred, op, rest = m.groups()
            f.code.append((pred, neg == "!", op.split("."), self._operands(rest), s))
        return f

    @staticmethod
    def _operands(s):
        ops, depth, cur = [], 0, ""
        for c in s:
            if c in "<[":
                depth += 1
            if c in ">]":
                depth -= 1
            if c == "," and depth == 0:
                ops.append(cur.strip())
                cur = ""
            else:
                cur += c
        if cur.strip():
            ops.append(cur.strip())
        return ops

    # ---- running -------------------------------------------------------------------------------------------------
    def launch(self, name, grid, block, args, shared=0, order="forward", seed=0, max_steps=20_000_000):
        f = self.functions[name]
        heap = Heap()
        params = {}
        bound, self.owner = [], {}
        if len(args) > len(f.params):
            raise PtxError(f"{name}: {len(args)} arguments for {len(f.params)} parameters")
        args = list(args) + [0] * (len(f.params) - len(args))
        stored, places = placed(args)
        for a in stored:
            addr = heap.add(a)
            bound.append((addr, a))
        for position, ((pname, t, size), a) in enumerate(zip(f.params, args)):
            if position in places:
                index, offset = places[position]
                addr = bound[index][0] + offset
                self.owner.setdefault(bound[index][0], position)
                params[pname] = np.array([addr], np.uint64).view(np.uint8)
            elif size and isinstance(a, (bytes, bytearray)):
                params[pname] = np.frombuffer(bytes(a), np.uint8)
            elif a is None:
                params[pname] = np.zeros(max(size, 8), np.uint8)
            else:
                w = width(t)
                v = np.array([a]).astype(F[w]).view(U[w]) if t[0] == "f" else np.array([int(a)], np.int64).astype(U[w])
                params[pname] = v.view(np.uint8)
        gaddr = {n: heap.add(d) for n, d in self.globals.items() if isinstance(d, np.ndarray)}
        heap.seal()
        self.stats = stats = Stats()
        rng = np.random.default_rng(seed)
        blocks = [(x, y, z) for z in range(grid[2]) for y in range(grid[1]) for x in range(grid[0])]
        if order == "random":
            rng.shuffle(blocks)
        elif order == "reverse":
            blocks.reverse()
        live = [Block(self, f, heap, params, gaddr, grid, block, tuple(b), shared, order, rng) for b in blocks]
        steps = 0
        while live:
            for b in list(live):
                n = b.run(50_000 if len(live) > 1 else max_steps)
                steps += n
                if b.done():
                    live.remove(b)
                if steps > max_steps:
                    raise PtxError(f"{name}: more than {max_steps} instructions: endless loop?")
        for addr, a in bound:
            heap.back(addr, a)
        stats.unique_read, stats.unique_written = int(heap.was_read.sum()), int(heap.was_written.sum())
        return stats


class Heap:
    """Global memory: buffers with unmapped gaps between them."""

    GAP, BASE = 4096, 1 << 20

    def __init__(self):
        self.parts, self.top = [], self.BASE

    def add(self, a):
        addr = self.top
        self.parts.append((addr, a))
        self.top += -(-a.nbytes // 256) * 256 + self.GAP
        return addr

    def seal(self):
        self.mem = np.zeros(self.top - self.BASE, np.uint8)
        self.starts = np.array([addr for addr, _ in self.parts], np.int64)
        self.valid = np.zeros(self.top - self.BASE, bool)
        self.was_read = np.zeros(self.top - self.BASE, bool)
        self.was_written = np.zeros(self.top - self.BASE, bool)
        for addr, a in self.parts:
            o = addr - self.BASE
            self.mem[o : o + a.nbytes] = np.ascontiguousarray(a).reshape(-1).view(np.uint8)
            self.valid[o : o + a.nbytes] = True

    def back(self, addr, a):
        o = addr - self.BASE
        a.reshape(-1).view(np.uint8)[:] = self.mem[o : o + a.nbytes]

    def where(self, addr, n, what):
        o = addr.astype(np.int64) - self.BASE
        idx = o[:, None] + np.arange(n)
        if idx.size and (idx.min() < 0 or idx.max() >= len(self.mem) or not self.valid[idx].all()):
            raise PtxError(f"global access outside every buffer: {what}")
        if (addr % np.uint64(n)).any() and n & (n - 1) == 0:
            raise PtxError(f"misaligned {n}-byte global access: {what}")
        return idx


class Block:
    SHARED_BASE = 0x0100_0000  # generic window of shared memory, as seen by cvta

    def __init__(self, mod, f, heap, params, gaddr, grid, block, ctaid, dyn, order, rng):
        self.mod, self.f, self.heap, self.params, self.gaddr, self.order, self.rng = mod, f, heap, params, gaddr, order, rng
        self.T = block[0] * block[1] * block[2]
        T = np.arange(self.T)
        self.pc = np.zeros(self.T, np.int64)
        self.alive = np.ones(self.T, bool)
        self.waiting = np.full(self.T, -1, np.int64)
        self.regs = {}
        self.grid, self.block, self.ctaid = grid, block, ctaid
        self.tid = (T % block[0], T // block[0] % block[1], T // (block[0] * block[1]))
        off, self.smem_addr = 0, {}
        for name, size in {**mod.globals.get("@shared", {}), **f.shared}.items():
            off = -(-off // 128) * 128
            self.smem_addr[name] = off
            off += size
        off = -(-off // 1024) * 1024
        for name in mod.extern_shared:
            self.smem_addr[name] = off
        self.smem = np.full(off + max(dyn, 0) + 16, 0xFF, np.uint8)  # poison: NaN patterns
        self.slimit = off + dyn
        self.local_size = sum(f.local.values()) + 16
        self.lmem = np.full((self.T, self.local_size), 0xFF, np.uint8)
        self.lmem_addr, o = {}, 0
        for name, size in f.local.items():
            self.lmem_addr[name] = o
            o += size
        self.async_open = [[] for _ in range(self.T)]
        self.async_groups = [[] for _ in range(self.T)]
        self.nw = -(-self.T // WARP)
        self.worder = list(range(self.nw))
        if order == "reverse":
            self.worder.reverse()

    def done(self):
        return not self.alive.any()

    def run(self, budget):
        n = 0
        while n < budget and self.alive.any():
            ready = self.alive & (self.waiting < 0)
            if not ready.any():
                self._release()
                continue
            if self.order == "random":
                ws = np.unique(np.nonzero(ready)[0] // WARP)
                w = int(self.rng.choice(ws))
                quantum = int(self.rng.integers(1, 200))
            elif self.order == "lockstep":
                w, quantum = None, 1
            else:
                w = next(i for i in self.worder if ready[i * WARP : (i + 1) * WARP].any())
                quantum = 1 << 30
            while quantum > 0 and n < budget:
                ready = self.alive & (self.waiting < 0)
                if w is not None:
                    mask = np.zeros(self.T, bool)
                    mask[w * WARP : (w + 1) * WARP] = True
                    ready &= mask
                idx = np.nonzero(ready)[0]
                if not len(idx):
                    break
                pc = self.pc[idx].min()
                self._step(idx[self.pc[idx] == pc], int(pc))
                n += 1
                quantum -= 1
        return n

    def _release(self):
        ids = self.waiting[self.alive]
        if (ids >= 0).all() and len(set(ids.tolist())) == 1:
            self.waiting[:] = -1
            return
        for b in set(ids.tolist()):  # named barriers with a thread count
            who = self.alive & (self.waiting == b)
            if b in getattr(self, "barcount", {}) and who.sum() >= self.barcount[b]:
                self.waiting[who] = -1
                return
        raise PtxError(f"{self.f.name}: threads wait at different barriers {sorted(set(ids.tolist()))}: deadlock")

    # ---- operands
    def special(self, name, L):
        d = {"%tid.x": self.tid[0], "%tid.y": self.tid[1], "%tid.z": self.tid[2]}
        if name in d:
            return d[name][L].astype(np.uint32)
        c = {"%ctaid.x": self.ctaid[0], "%ctaid.y": self.ctaid[1], "%ctaid.z": self.ctaid[2], "%ntid.x": self.block[0], "%ntid.y": self.block[1],
             "%ntid.z": self.block[2], "%nctaid.x": self.grid[0], "%nctaid.y": self.grid[1], "%nctaid.z": self.grid[2], "%warpsize": WARP, "%clock": 0, "%smid": 0,
             "%envreg1": 0, "%envreg2": 0, "%nwarpid": self.nw, "%gridid": 0, "%total_smem_size": len(self.smem), "%dynamic_smem_size": max(0, self.slimit)}
        if name in c:
            return np.full(len(L), c[name], np.uint32)
        if name == "%laneid":
            return (L % WARP).astype(np.uint32)
        if name == "%warpid":
            return (L // WARP).astype(np.uint32)
        masks = {"%lanemask_lt": lambda l: (1 << l) - 1, "%lanemask_le": lambda l: (2 << l) - 1, "%lanemask_eq": lambda l: 1 << l,
                 "%lanemask_gt": lambda l: 0xFFFFFFFF & ~((2 << l) - 1), "%lanemask_ge": lambda l: 0xFFFFFFFF & ~((1 << l) - 1)}
        if name in masks:
            return np.array([masks[name](int(x) % WARP) for x in L], np.uint32)
        if name in ("%clock64", "%globaltimer"):
            return np.zeros(len(L), np.uint64)
        return None

    def raw(self, o, L, t):
        """Unsigned lanes of operand o read as type t."""
        w = width(t)
        if o.startswith("%"):
            v = self.special(o, L)
            if v is None:
                r = self.regs.get(o)
                if r is None:
                    raise PtxError(f"register {o} read before it was written")
                v = r[L]
            if t == "pred":
                return v.astype(bool)
            if v.dtype == bool:
                return v.astype(U[w])
            return v.astype(U[w])
        if o in self.smem_addr:
            return np.full(len(L), self.smem_addr[o], np.uint64).astype(U[w])
        if o in self.gaddr:
            return np.full(len(L), self.gaddr[o], np.uint64).astype(U[w])
        if o in self.lmem_addr:
            return np.full(len(L), self.lmem_addr[o] + (1 << 40), np.uint64).astype(U[w])
        if re.fullmatch(r"[\w$]+\+\d+", o):
            a, b = o.split("+")
            return self.raw(a, L, t) + U[w](int(b))
        if o in self.regs:
            r = self.regs[o][L]
            return r if t == "pred" else r.astype(U[w])
        v = self.mod._imm(o, t)
        if isinstance(v, float):
            return np.full(len(L), encode(np.array(v), t))
        return np.full(len(L), np.uint64(v & 0xFFFFFFFFFFFFFFFF)).astype(U[max(w, 8)]) if t != "pred" else np.full(len(L), bool(v))

    def val(self, o, L, t):
        neg = o.startswith("-%")
        if o.startswith("!"):
            return ~self.raw(o[1:], L, "pred")
        v = decode(self.raw(o[1:] if neg else o, L, t), t)
        return -v if neg else v

    def put(self, o, L, v, t, dtype=None):
        if o == "_":
            return
        u = encode(v, t) if dtype is None else v
        if t == "pred":
            u = np.asarray(v, bool)
        r = self.regs.get(o)
        if r is None or r.dtype.itemsize < u.dtype.itemsize or (r.dtype == bool) != (u.dtype == bool):
            new = np.zeros(self.T, u.dtype)
            if r is not None and r.dtype != bool and u.dtype != bool:
                new[:] = r.astype(u.dtype)
            r = self.regs[o] = new
        r[L] = u.astype(r.dtype)

    def addr(self, o, L):
        s = o.strip("[] ")
        m = re.fullmatch(r"(%?[\w$]+)\s*(?:\+\s*(-?\d+))?", s)
        if not m:
            raise PtxError(f"address {o}")
        base, off = m.group(1), int(m.group(2) or 0)
        if base.isdigit():
            return np.full(len(L), int(base) + off, np.uint64)
        return (self.raw(base, L, "u64").astype(np.int64) + off).astype(np.uint64)

    # ---- memory
    def _warps(self, L):
        if L is None:
            return [slice(None)]
        w = np.asarray(L) // WARP
        return [w == i for i in np.unique(w)]

    def _count_global(self, a, n, L, write=False):
        st = self.mod.stats
        starts = self.heap.starts
        for i, c in zip(*np.unique(np.searchsorted(starts, a.astype(np.int64), side="right") - 1, return_counts=True)):
            who = self.mod.owner.get(int(starts[i]))
            r, w = st.per_argument.get(who, (0, 0))
            st.per_argument[who] = (r, w + int(c) * n) if write else (r + int(c) * n, w)
        for s in self._warps(L):
            x = a[s].astype(np.int64)
            st.requests += 1
            st.sectors += len(np.unique((x[:, None] + np.arange(0, n, min(n, 32))).ravel() // 32))
            st.ideal_sectors += -(-len(np.unique(x)) * n // 32)

    def _count_shared(self, a, n, L):
        st = self.mod.stats
        for s in self._warps(L):
            x = a[s].astype(np.int64)
            st.shared_accesses += 1
            words = np.unique((x[:, None] + np.arange(0, max(n, 4), 4)).ravel() // 4)
            st.bank_passes += max(int(np.bincount(words % 32).max()), 1) if len(words) else 0
            st.ideal_passes += -(-len(words) // 32)

    def load(self, space, a, n, L, what):
        if space == "global":
            idx = self.heap.where(a, n, what)
            self.heap.was_read[idx] = True
            self._count_global(a, n, L)
            self.mod.stats.read += idx.size
            return self.heap.mem[idx]
        if space == "shared":
            idx = a.astype(np.int64)[:, None] + np.arange(n)
            if idx.size and (idx.min() < 0 or idx.max() >= max(self.slimit, 0)):
                raise PtxError(f"shared access outside {self.slimit} bytes: {what}")
            if (a % np.uint64(n)).any() and n & (n - 1) == 0:
                raise PtxError(f"misaligned {n}-byte shared access: {what}")
            self._count_shared(a, n, L)
            return self.smem[idx]
        idx = (a.astype(np.int64) & ((1 << 40) - 1))[:, None] + np.arange(n)
        return self.lmem[np.asarray(L)[:, None], idx]

    def store(self, space, a, raw, L, what):
        n = raw.shape[1]
        if space == "global":
            idx = self.heap.where(a, n, what)
            self.heap.was_written[idx] = True
            self._count_global(a, n, L, write=True)
            self.mod.stats.written += idx.size
            self.heap.mem[idx] = raw
        elif space == "shared":
            idx = a.astype(np.int64)[:, None] + np.arange(n)
            if idx.size and (idx.min() < 0 or idx.max() >= max(self.slimit, 0)):
                raise PtxError(f"shared access outside {self.slimit} bytes: {what}")
            if (a % np.uint64(n)).any() and n & (n - 1) == 0:
                raise PtxError(f"misaligned {n}-byte shared access: {what}")
            self._count_shared(a, n, L)
            self.smem[idx] = raw
        else:
            idx = (a.astype(np.int64) & ((1 << 40) - 1))[:, None] + np.arange(n)
            self.lmem[np.asarray(L)[:, None], idx] = raw

    def generic(self, a):
        """Space of a generic address (one space per instruction is assumed)."""
        if not len(a):
            return "global", a
        if int(a[0]) >= 1 << 40:
            return "local", a
        if int(a[0]) >= Heap.BASE and not (self.SHARED_BASE << 20 <= int(a[0])):
            return "global", a
        if int(a[0]) >= self.SHARED_BASE << 20:
            return "shared", (a - np.uint64(self.SHARED_BASE << 20))
        return "shared", a

    # ---- one instruction for the lanes L
    def _step(self, L, pc):
        if pc >= len(self.f.code):
            self.alive[L] = False
            return
        pred, neg, op, o, text = self.f.code[pc]
        st, nw = self.mod.stats, len(np.unique(L // WARP))
        st.warp_instructions += nw
        st.ops[op[0]] = st.ops.get(op[0], 0) + nw
        self.pc[L] = pc + 1
        if pred:
            p = self.raw(pred, L, "pred")
            if neg:
                p = ~p
            act = L[p]
        else:
            act = L
        k = op[0]
        if k == "bra":
            self.pc[act] = self.f.labels[o[0]]
            return
        if k in ("ret", "exit"):
            self.alive[act] = False
            return
        if not len(act):
            return
        with np.errstate(all="ignore"):
            self._exec(k, op, o, act, text)

    def _exec(self, k, op, o, L, text):
        t = op[-1]
        m = getattr(self, "i_" + k, None)
        if m is None:
            raise PtxError(f"unknown instruction: {text}")
        m(op, o, L, t, text)

    # data movement
    def i_mov(self, op, o, L, t, text):
        if o[0].startswith("<"):  # unpack
            parts = [x.strip() for x in o[0].strip("<>").split(",")]
            v = self.raw(o[1], L, t)
            w = width(t) // len(parts)
            for i, p in enumerate(parts):
                self.put(p, L, ((v >> v.dtype.type(i * w)) & v.dtype.type((1 << w) - 1)).astype(U[w]), f"b{w}", 1)
        elif o[1].startswith("<"):  # pack
            parts = [x.strip() for x in o[1].strip("<>").split(",")]
            w = width(t) // len(parts)
            v = np.zeros(len(L), U[width(t)])
            for i, p in enumerate(parts):
                v |= self.raw(p, L, f"b{w}").astype(v.dtype) << v.dtype.type(i * w)
            self.put(o[0], L, v, t, 1)
        else:
            self.put(o[0], L, self.raw(o[1], L, t), t, 1)

    def i_cvta(self, op, o, L, t, text):
        v = self.raw(o[1], L, "u64")
        if "shared" in op:
            d = np.uint64(self.SHARED_BASE << 20)
            v = v - d if "to" in op else v + d
        self.put(o[0], L, v, "u64", 1)

    def i_ld(self, op, o, L, t, text):
        vec = 4 if "v4" in op else 2 if "v2" in op else 8 if "v8" in op else 1
        if "param" in op:
            s = o[1].strip("[] ")
            name, _, off = s.partition("+")
            off = int(off or 0)
            nb = width(t) // 8
            for i, d in enumerate([x.strip() for x in o[0].strip("<>").split(",")]):
                raw = self.params[name.strip()][off + i * nb : off + (i + 1) * nb]
                v = np.frombuffer(bytes(raw), U[width(t)])[0]
                self.put(d, L, np.full(len(L), v), t, 1)
            return
        nb = max(width(t) // 8, 1)
        a = self.addr(o[1], L)
        space = next((s for s in ("global", "shared", "local", "const") if any(x.split("::")[0] == s for x in op)), None)
        if space is None:
            space, a = self.generic(a)
        if space == "const":
            space = "global"
        raw = np.ascontiguousarray(self.load(space, a, nb * vec, L, text)).view(U[nb * 8])
        for i, d in enumerate([x.strip() for x in o[0].strip("<>").split(",")]):
            self._put_loaded(d, L, raw[:, i], t)

    def _put_loaded(self, d, L, u, t):
        if t[0] == "s" and width(t) < 32:
            u = decode(u, t).astype(np.int32).view(np.uint32)
            self.put(d, L, u, "u32", 1)
        else:
            self.put(d, L, u, t, 1)

    i_ldu = i_ld

    def i_st(self, op, o, L, t, text):
        parts = [x.strip() for x in o[1].strip("<>").split(",")]
        raw = np.stack([self.raw(p, L, t) for p in parts], 1)
        raw = np.ascontiguousarray(raw).view(np.uint8).reshape(len(L), -1)
        a = self.addr(o[0], L)
        space = next((s for s in ("global", "shared", "local") if any(x.split("::")[0] == s for x in op)), None)
        if space is None:
            space, a = self.generic(a)
        self.store(space, a, raw, L, text)

    def i_prefetch(self, op, o, L, t, text):
        pass

    def i_discard(self, op, o, L, t, text):
        pass

    def i_applypriority(self, op, o, L, t, text):
        pass

    def i_createpolicy(self, op, o, L, t, text):
        self.put(o[0], L, np.zeros(len(L), np.uint64), "u64", 1)

    # asynchronous copies land when waited for
    def i_cp(self, op, o, L, t, text):
        if "commit_group" in op:
            for l in L:
                self.async_groups[l].append(self.async_open[l])
                self.async_open[l] = []
        elif "wait_group" in op or "wait_all" in op:
            keep = 0 if "wait_all" in op else int(o[0], 0)
            for l in L:
                if "wait_all" in op and self.async_open[l]:
                    self.async_groups[l].append(self.async_open[l])
                    self.async_open[l] = []
                while len(self.async_groups[l]) > keep:
                    for dst, data in self.async_groups[l].pop(0):
                        self.smem[dst : dst + len(data)] = data
        else:
            n = int(o[2], 0)
            dst, src = self.addr(o[0], L).astype(np.int64), self.addr(o[1], L)
            sizes = self.raw(o[3], L, "u32").astype(np.int64) if len(o) > 3 and not o[3].startswith("%rd") else np.full(len(L), n)
            if (sizes > 0).any():
                self._count_global(src[sizes > 0], n, L[sizes > 0])
            for i, l in enumerate(L):
                data = np.zeros(n, np.uint8)
                s = int(sizes[i])
                if s:
                    data[:s] = self._peek(src[i : i + 1], s, text)
                if dst[i] < 0 or dst[i] + n > self.slimit:
                    raise PtxError(f"shared access outside {self.slimit} bytes: {text}")
                self.async_open[l].append((int(dst[i]), data))

    def _peek(self, a, n, text):
        idx = self.heap.where(a, n, text)
        self.heap.was_read[idx] = True
        self.mod.stats.read += idx.size
        return self.heap.mem[idx][0]

    # barriers and warps
    def i_bar(self, op, o, L, t, text):
        if "warp" in op:
            return
        ident = int(o[0], 0) if o and not o[0].startswith("%") else 0
        if len(o) > 1:
            self.barcount = getattr(self, "barcount", {})
            self.barcount[ident] = int(o[1], 0)
        self.waiting[L] = ident
        self.mod.stats.barriers += len(np.unique(L // WARP))
        if "red" in op:
            raise PtxError(f"unknown instruction: {text}")

    i_barrier = i_bar

    def i_membar(self, op, o, L, t, text):
        pass

    i_fence = i_membar

    def i_griddepcontrol(self, op, o, L, t, text):
        pass

    def i_nanosleep(self, op, o, L, t, text):
        pass

    def i_activemask(self, op, o, L, t, text):
        self.put(o[0], L, self._mask_of(L, np.ones(len(L), bool)), "u32", 1)

    def _mask_of(self, L, p):
        bits = {}
        for l, q in zip(L, p):
            if q:
                bits[l // WARP] = bits.get(l // WARP, 0) | 1 << (int(l) % WARP)
        return np.array([bits.get(l // WARP, 0) for l in L], np.uint32)

    def i_vote(self, op, o, L, t, text):
        p = self.val(o[1], L, "pred") if not o[1].startswith("!") else ~self.raw(o[1][1:], L, "pred")
        ballot, full = self._mask_of(L, p), self._mask_of(L, np.ones(len(L), bool))
        if "ballot" in op:
            self.put(o[0], L, ballot, "u32", 1)
        else:
            v = ballot != 0 if "any" in op else ballot == full if "all" in op else (ballot == full) | (ballot == 0)
            self.put(o[0], L, v, "pred")

    def i_match(self, op, o, L, t, text):
        v = self.raw(o[1], L, t)
        out = np.zeros(len(L), np.uint32)
        for i, l in enumerate(L):
            for j, l2 in enumerate(L):
                if l // WARP == l2 // WARP and v[i] == v[j]:
                    out[i] |= np.uint32(1 << (int(l2) % WARP))
        self.put(o[0].split("|")[0], L, out, "u32", 1)

    def i_redux(self, op, o, L, t, text):
        v = self.val(o[1], L, t)
        f = {"add": np.sum, "min": np.min, "max": np.max, "and": np.bitwise_and.reduce, "or": np.bitwise_or.reduce, "xor": np.bitwise_xor.reduce}[op[2]]
        out = v.copy()
        for w in np.unique(L // WARP):
            s = L // WARP == w
            out[s] = f(v[s])
        self.put(o[0], L, out, t)

    def i_elect(self, op, o, L, t, text):
        first = np.array([l == L[L // WARP == l // WARP].min() for l in L])
        d = o[0].split("|")
        self.put(d[0], L, np.array([L[L // WARP == l // WARP].min() % WARP for l in L]), "u32")
        if len(d) > 1:
            self.put(d[1], L, first, "pred")

    def i_shfl(self, op, o, L, t, text):
        mode = op[2] if op[1] == "sync" else op[1]
        full = np.zeros(self.T, np.uint32)
        full[L] = self.raw(o[1], L, "b32")
        b = self.raw(o[2], L, "u32").astype(np.int64)
        c = self.raw(o[3], L, "u32").astype(np.int64)
        lane, base = L % WARP, L // WARP * WARP
        seg, clamp = (c >> 8) & 31, c & 31
        maxl = (lane & seg) | (clamp & ~seg)
        minl = lane & seg
        if mode == "up":
            j = lane - b
            ok = j >= maxl
        elif mode == "down":
            j = lane + b
            ok = j <= maxl
        elif mode == "bfly":
            j = lane ^ b
            ok = j <= maxl
        else:
            j = minl | (b & 31 & ~seg)
            ok = j <= maxl
        src = base + np.where(ok, j, lane)
        here = np.zeros(self.T + WARP, bool)
        here[L] = True
        if not here[src].all():
            raise PtxError(f"shuffle reads a lane that is not there: {text}")
        d = [x.strip() for x in o[0].split("|")]
        self.put(d[0], L, full[np.minimum(src, self.T - 1)], "b32", 1)
        if len(d) > 1:
            self.put(d[1], L, ok, "pred")

    # tensor cores
    def _frag(self, names, L, t):
        names = [x.strip() for x in names.strip("<>").split(",")]
        return np.stack([self.raw(n, L, t) for n in names], 1)

    @staticmethod
    def _halves(u, kind):
        lo, hi = (u & np.uint32(0xFFFF)).astype(np.uint16), (u >> np.uint32(16)).astype(np.uint16)
        return (bf16_to_f32(lo), bf16_to_f32(hi)) if kind == "bf16" else (decode(lo, "f16"), decode(hi, "f16"))

    def i_mma(self, op, o, L, t, text):
        shape = next(x for x in op if re.fullmatch(r"m\d+n\d+k\d+", x))
        kind, dt = op[-3], op[-4]
        if shape not in ("m16n8k16", "m16n8k8") or dt not in ("f32", "f16") or kind not in ("bf16", "f16", "tf32"):
            raise PtxError(f"unknown instruction: {text}")
        K = 16 if shape == "m16n8k16" else 8
        outs = [x.strip() for x in o[0].strip("<>").split(",")]
        A, Bf, C = self._frag(o[1], L, "b32"), self._frag(o[2], L, "b32"), self._frag(o[3], L, "b32")
        for w in np.unique(L // WARP):
            s = np.nonzero(L // WARP == w)[0]
            if len(s) != WARP:
                raise PtxError(f"mma with part of a warp: {text}")
            lane = L[s] % WARP
            g, q = lane >> 2, lane & 3
            a, b = np.zeros((16, K), np.float32), np.zeros((K, 8), np.float32)
            if kind == "tf32":
                cut = lambda u: (u & np.uint32(0xFFFFE000)).view(np.float32)
                for i, (dr, dk) in enumerate(((0, 0), (8, 0), (0, 4), (8, 4))[: A.shape[1]]):
                    a[g + dr, q + dk] = cut(np.ascontiguousarray(A[s, i]))
                for i in range(Bf.shape[1]):
                    b[q + 4 * i, g] = cut(np.ascontiguousarray(Bf[s, i]))
            else:
                for i in range(A.shape[1]):
                    lo, hi = self._halves(A[s, i], kind)
                    r, c = g + 8 * (i & 1), q * 2 + 8 * (i >> 1)
                    a[r, c], a[r, c + 1] = lo, hi
                for i in range(Bf.shape[1]):
                    lo, hi = self._halves(Bf[s, i], kind)
                    b[q * 2 + 8 * i, g], b[q * 2 + 8 * i + 1, g] = lo, hi
            self.mod.stats.matrix_flops += 2 * 16 * 8 * K
            prod = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)
            if dt == "f32":
                cf = np.ascontiguousarray(C[s]).view(np.float32)
                res = np.stack([cf[:, 0] + prod[g, q * 2], cf[:, 1] + prod[g, q * 2 + 1], cf[:, 2] + prod[g + 8, q * 2], cf[:, 3] + prod[g + 8, q * 2 + 1]], 1)
                for i, n in enumerate(outs):
                    self.put(n, L[s], np.ascontiguousarray(res[:, i]).view(np.uint32), "b32", 1)
            else:
                for i, n in enumerate(outs):
                    lo, hi = self._halves(C[s, i], "f16")
                    v0 = encode(lo + prod[g + 8 * i, q * 2], "f16").astype(np.uint32)
                    v1 = encode(hi + prod[g + 8 * i, q * 2 + 1], "f16").astype(np.uint32)
                    self.put(n, L[s], v0 | v1 << np.uint32(16), "b32", 1)

    def i_ldmatrix(self, op, o, L, t, text):
        n = int(next(x for x in op if re.fullmatch(r"x\d", x))[1])
        trans = "trans" in op
        outs = [x.strip() for x in o[0].strip("<>").split(",")]
        a = self.addr(o[1], L)
        for w in np.unique(L // WARP):
            s = np.nonzero(L // WARP == w)[0]
            if len(s) != WARP:
                raise PtxError(f"ldmatrix with part of a warp: {text}")
            lane = L[s] % WARP
            for i in range(n):
                rows = a[s][i * 8 : i * 8 + 8]
                mat = np.ascontiguousarray(self.load("shared", rows, 16, None, text)).view(np.uint16)  # [8, 8]
                if trans:
                    mat = mat.T
                v = mat[lane // 4, lane % 4 * 2].astype(np.uint32) | mat[lane // 4, lane % 4 * 2 + 1].astype(np.uint32) << np.uint32(16)
                self.put(outs[i], L[s], v, "b32", 1)

    # atomics: lane by lane
    def i_atom(self, op, o, L, t, text, red=False):
        kind = next(x for x in op if x in ("add", "min", "max", "exch", "cas", "and", "or", "xor", "inc", "dec"))
        args = o if red else o[1:]
        a = self.addr(args[0], L)
        space = next((s for s in ("global", "shared") if any(x.split("::")[0] == s for x in op)), None)
        if space is None:
            space, a = self.generic(a)
        nb = width(t) // 8
        b = self.raw(args[1], L, t)
        c = self.raw(args[2], L, t) if kind == "cas" else None
        old = np.zeros(len(L), U[nb * 8])
        for i, l in enumerate(L):
            cur = np.ascontiguousarray(self.load(space, a[i : i + 1], nb, [l], text)).view(U[nb * 8]).reshape(1)
            old[i] = cur[0]
            x, y = decode(cur, t), decode(b[i : i + 1], t)
            if kind == "add":
                v = x + y
            elif kind == "exch":
                v = y
            elif kind == "cas":
                v = decode(c[i : i + 1], t) if cur[0] == b[i] else x
            elif kind == "inc":
                v = np.where(x >= y, 0, x + 1)
            elif kind == "dec":
                v = np.where((x == 0) | (x > y), y, x - 1)
            else:
                v = {"min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[kind](x, y)
            self.store(space, a[i : i + 1], np.ascontiguousarray(encode(v, t)).view(np.uint8).reshape(1, nb), [l], text)
        if not red:
            self.put(o[0], L, old, t, 1)

    def i_red(self, op, o, L, t, text):
        self.i_atom(op, o, L, t, text, red=True)

    # arithmetic
    def _two(self, f):
        pass

    def _bin(self, o, L, t, f):
        if t in ("bf16x2", "f16x2"):
            k = t[:-2]
            a, b = (self._halves(self.raw(x, L, "b32"), k) for x in o[1:3])
            r = [encode(f(x, y), k).astype(np.uint32) for x, y in zip(a, b)]
            self.put(o[0], L, r[0] | r[1] << np.uint32(16), "b32", 1)
        else:
            self.put(o[0], L, f(self.val(o[1], L, t), self.val(o[2], L, t)), t)

    def i_add(self, op, o, L, t, text):
        self._bin(o, L, t, np.add)

    def i_sub(self, op, o, L, t, text):
        self._bin(o, L, t, np.subtract)

    def _prod(self, op, a, b, t):
        w = width(t)
        if "wide" in op:
            big = (S if t[0] == "s" else U)[w * 2]
            return a.astype(big) * b.astype(big), ("s" if t[0] == "s" else "u") + str(w * 2)
        if "hi" in op:
            r = [(int(x) * int(y)) >> w for x, y in zip(a, b)]
            return np.array([x & ((1 << w) - 1) for x in r], U[w]), f"u{w}"
        return a * b, t

    def i_mul(self, op, o, L, t, text):
        if t[0] in "su":
            v, t2 = self._prod(op, self.val(o[1], L, t), self.val(o[2], L, t), t)
            self.put(o[0], L, v, t2)
        else:
            self._bin(o, L, t, np.multiply)

    def i_mul24(self, op, o, L, t, text):
        self.i_mul([*op], o, L, t, text)

    def i_mad(self, op, o, L, t, text):
        if t[0] in "su":
            v, t2 = self._prod(op, self.val(o[1], L, t), self.val(o[2], L, t), t)
            c = self.val(o[3], L, t2)
            self.put(o[0], L, v.astype(c.dtype) + c, t2)
        else:
            self.i_fma(op, o, L, t, text)

    def i_fma(self, op, o, L, t, text):
        if t in ("bf16x2", "f16x2"):
            k = t[:-2]
            a, b, c = (self._halves(self.raw(x, L, "b32"), k) for x in o[1:4])
            r = [encode((x.astype(np.float64) * y + z).astype(np.float32), k).astype(np.uint32) for x, y, z in zip(a, b, c)]
            self.put(o[0], L, r[0] | r[1] << np.uint32(16), "b32", 1)
            return
        a, b, c = (self.val(x, L, t) for x in o[1:4])
        if t == "f32":
            v = (a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)).astype(np.float32)
        else:
            v = a * b + c
        self.put(o[0], L, v, t)

    def i_div(self, op, o, L, t, text):
        a, b = self.val(o[1], L, t), self.val(o[2], L, t)
        if t[0] == "f":
            v = a / b
        else:
            x, y = a.astype(object), b.astype(object)
            v = np.array([0 if q == 0 else (abs(p) // abs(q)) * (1 if (p >= 0) == (q > 0) else -1) for p, q in zip(x, y)], dtype=np.int64 if t[0] == "s" else np.uint64)
        self.put(o[0], L, v, t)

    def i_rem(self, op, o, L, t, text):
        a, b = self.val(o[1], L, t).astype(object), self.val(o[2], L, t).astype(object)
        v = np.array([0 if q == 0 else (abs(p) % abs(q)) * (1 if p >= 0 else -1) for p, q in zip(a, b)], dtype=np.int64 if t[0] == "s" else np.uint64)
        self.put(o[0], L, v, t)

    def _minmax(self, op, o, L, t, f, fn):
        if t in ("bf16x2", "f16x2"):
            return self._bin(o, L, t, f)
        a, b = self.val(o[1], L, t), self.val(o[2], L, t)
        v = f(a, b) if (t[0] != "f" and t != "bf16") or "NaN" in op else fn(a, b)
        if len(o) > 3:
            c = self.val(o[3], L, t)
            v = fn(v, c) if t[0] == "f" else f(v, c)
        self.put(o[0], L, v, t)

    def i_min(self, op, o, L, t, text):
        self._minmax(op, o, L, t, np.minimum, np.fmin)

    def i_max(self, op, o, L, t, text):
        self._minmax(op, o, L, t, np.maximum, np.fmax)

    def _one(self, o, L, t, f):
        if t in ("bf16x2", "f16x2"):
            k = t[:-2]
            a = self._halves(self.raw(o[1], L, "b32"), k)
            r = [encode(f(x), k).astype(np.uint32) for x in a]
            self.put(o[0], L, r[0] | r[1] << np.uint32(16), "b32", 1)
        else:
            self.put(o[0], L, f(self.val(o[1], L, t)), t)

    def i_neg(self, op, o, L, t, text):
        self._one(o, L, t, lambda a: -a)

    def i_abs(self, op, o, L, t, text):
        self._one(o, L, t, np.abs)

    def i_sqrt(self, op, o, L, t, text):
        self._one(o, L, t, np.sqrt)

    def i_rsqrt(self, op, o, L, t, text):
        self._one(o, L, t, lambda a: (1 / np.sqrt(a)).astype(a.dtype))

    def i_rcp(self, op, o, L, t, text):
        self._one(o, L, t, lambda a: (1 / a).astype(a.dtype))

    def i_ex2(self, op, o, L, t, text):
        self._one(o, L, t, np.exp2)

    def i_lg2(self, op, o, L, t, text):
        self._one(o, L, t, np.log2)

    def i_sin(self, op, o, L, t, text):
        self._one(o, L, t, np.sin)

    def i_cos(self, op, o, L, t, text):
        self._one(o, L, t, np.cos)

    def i_tanh(self, op, o, L, t, text):
        self._one(o, L, t, np.tanh)

    def i_copysign(self, op, o, L, t, text):
        self.put(o[0], L, np.copysign(self.val(o[2], L, t), self.val(o[1], L, t)), t)

    def i_testp(self, op, o, L, t, text):
        a = self.val(o[1], L, t)
        self.put(o[0], L, {"finite": np.isfinite, "infinite": np.isinf, "notanumber": np.isnan, "number": lambda x: ~np.isnan(x)}[op[1]](a), "pred")

    # bits
    def _logic(self, o, L, t, f):
        if t == "pred":
            self.put(o[0], L, f(self.raw(o[1], L, t), self.raw(o[2], L, t)), t)
        else:
            self.put(o[0], L, f(self.raw(o[1], L, t), self.raw(o[2], L, t)), t, 1)

    def i_and(self, op, o, L, t, text):
        self._logic(o, L, t, np.bitwise_and)

    def i_or(self, op, o, L, t, text):
        self._logic(o, L, t, np.bitwise_or)

    def i_xor(self, op, o, L, t, text):
        self._logic(o, L, t, np.bitwise_xor)

    def i_not(self, op, o, L, t, text):
        self.put(o[0], L, ~self.raw(o[1], L, t), t, None if t == "pred" else 1)

    def i_lop3(self, op, o, L, t, text):
        a, b, c = (self.raw(x, L, "b32") for x in o[1:4])
        lut = int(o[4], 0)
        r = np.zeros(len(L), np.uint32)
        for i in range(8):
            if lut >> i & 1:
                r |= (a if i & 4 else ~a) & (b if i & 2 else ~b) & (c if i & 1 else ~c)
        self.put(o[0], L, r, "b32", 1)

    def i_shl(self, op, o, L, t, text):
        w = width(t)
        a, b = self.raw(o[1], L, t), self.raw(o[2], L, "u32").astype(np.int64)
        self.put(o[0], L, np.where(b >= w, 0, a.astype(np.uint64) << np.minimum(b, 63).astype(np.uint64)).astype(U[w]), t, 1)

    def i_shr(self, op, o, L, t, text):
        w = width(t)
        b = np.minimum(self.raw(o[2], L, "u32").astype(np.int64), w if t[0] != "s" else w - 1)
        a = decode(self.raw(o[1], L, t), t if t[0] == "s" else f"u{w}")
        if t[0] == "s":
            v = encode(a.astype(np.int64) >> b, t)
        else:
            v = np.where(b >= w, 0, a.astype(np.uint64) >> np.minimum(b, 63).astype(np.uint64)).astype(U[w])
        self.put(o[0], L, v, t, 1)

    def i_shf(self, op, o, L, t, text):
        a, b, c = self.raw(o[1], L, "b32").astype(np.uint64), self.raw(o[2], L, "b32").astype(np.uint64), self.raw(o[3], L, "b32").astype(np.uint64)
        c = c & np.uint64(31) if "wrap" in op else np.minimum(c, np.uint64(32))
        v = b << np.uint64(32) | a
        r = (v << c) >> np.uint64(32) if "l" in op else v >> c
        self.put(o[0], L, (r & np.uint64(0xFFFFFFFF)).astype(np.uint32), "b32", 1)

    def i_bfe(self, op, o, L, t, text):
        w = width(t)
        a, pos, n = self.raw(o[1], L, f"u{w}"), self.raw(o[2], L, "u32") & 255, self.raw(o[3], L, "u32") & 255
        out = []
        for x, p, k in zip(a, pos, n):
            x, p, k = int(x), int(p), int(k)
            v = (x >> p) & ((1 << k) - 1)
            if t[0] == "s" and k and (x >> min(p + k - 1, w - 1)) & 1:
                v |= ((1 << w) - 1) & ~((1 << k) - 1)
            out.append(v & ((1 << w) - 1))
        self.put(o[0], L, np.array(out, U[w]), t, 1)

    def i_bfi(self, op, o, L, t, text):
        w = width(t)
        out = []
        for a, b, p, k in zip(self.raw(o[1], L, t), self.raw(o[2], L, t), self.raw(o[3], L, "u32") & 255, self.raw(o[4], L, "u32") & 255):
            m = ((1 << int(k)) - 1) << int(p)
            out.append(((int(b) & ~m) | ((int(a) << int(p)) & m)) & ((1 << w) - 1))
        self.put(o[0], L, np.array(out, U[w]), t, 1)

    def i_prmt(self, op, o, L, t, text):
        a, b, c = (self.raw(x, L, "b32") for x in o[1:4])
        out = []
        for x, y, z in zip(a, b, c):
            by = list(int(x).to_bytes(4, "little") + int(y).to_bytes(4, "little"))
            r = 0
            for i in range(4):
                s = int(z) >> (4 * i) & 15
                v = by[s & 7]
                if s & 8:
                    v = 255 if v & 128 else 0
                r |= v << (8 * i)
            out.append(r)
        self.put(o[0], L, np.array(out, np.uint32), "b32", 1)

    def i_popc(self, op, o, L, t, text):
        self.put(o[0], L, np.array([bin(int(x)).count("1") for x in self.raw(o[1], L, t)], np.uint32), "u32", 1)

    def i_clz(self, op, o, L, t, text):
        w = width(t)
        self.put(o[0], L, np.array([w - int(x).bit_length() for x in self.raw(o[1], L, t)], np.uint32), "u32", 1)

    def i_brev(self, op, o, L, t, text):
        w = width(t)
        self.put(o[0], L, np.array([int(bin(int(x))[2:].zfill(w)[::-1], 2) for x in self.raw(o[1], L, t)], U[w]), t, 1)

    def i_bfind(self, op, o, L, t, text):
        self.put(o[0], L, np.array([(int(x).bit_length() - 1) & 0xFFFFFFFF for x in self.raw(o[1], L, t)], np.uint32), "u32", 1)

    # choices
    def i_setp(self, op, o, L, t, text):
        a, b = self.val(o[1], L, t), self.val(o[2], L, t)
        c = op[1]
        un = np.isnan(a) | np.isnan(b) if a.dtype.kind == "f" else np.zeros(len(L), bool)
        table = {"eq": a == b, "ne": (a != b) & ~un, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b, "lo": a < b, "ls": a <= b, "hi": a > b, "hs": a >= b,
                 "num": ~un, "nan": un, "equ": (a == b) | un, "neu": (a != b) | un, "ltu": (a < b) | un, "leu": (a <= b) | un, "gtu": (a > b) | un, "geu": (a >= b) | un}
        v = table[c]
        boolop = next((x for x in op[2:] if x in ("and", "or", "xor")), None)
        d = [x.strip() for x in o[0].split("|")]
        w = ~v
        if boolop:
            p = self.val(o[3], L, "pred") if o[3].startswith("!") else self.raw(o[3], L, "pred")
            f = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}[boolop]
            v, w = f(v, p), f(w, p)
        self.put(d[0], L, v, "pred")
        if len(d) > 1:
            self.put(d[1], L, w, "pred")

    def i_selp(self, op, o, L, t, text):
        p = self.raw(o[3], L, "pred")
        self.put(o[0], L, np.where(p, self.raw(o[1], L, t), self.raw(o[2], L, t)), t, 1)

    def i_slct(self, op, o, L, t, text):
        c = self.val(o[3], L, t)
        self.put(o[0], L, np.where(c >= 0, self.raw(o[1], L, op[-2]), self.raw(o[2], L, op[-2])), op[-2], 1)

    # conversions
    def i_cvt(self, op, o, L, t, text):
        src, dst = op[-1], op[-2]
        if dst in ("bf16x2", "f16x2") and src == "f32":
            k = dst[:-2]
            hi, lo = encode(self.val(o[1], L, src), k).astype(np.uint32), encode(self.val(o[2], L, src), k).astype(np.uint32)
            self.put(o[0], L, lo | hi << np.uint32(16), "b32", 1)
            return
        v = self.val(o[1], L, src)
        if dst == "tf32":
            u = np.ascontiguousarray(v.astype(np.float32)).view(np.uint32)
            self.put(o[0], L, (u + np.uint32(0x1000)) & np.uint32(0xFFFFE000), "b32", 1)
            return
        fsrc, fdst = src[0] == "f" or src == "bf16", dst[0] == "f" or dst == "bf16"
        if fsrc:
            rnd = next((x for x in op if x in ("rni", "rzi", "rmi", "rpi")), None)
            if rnd:
                v = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[rnd](v)
            if "sat" in op and fdst:
                v = np.clip(np.nan_to_num(v, nan=0.0), 0, 1)
            if not fdst:
                info = np.iinfo((S if dst[0] == "s" else U)[width(dst)])
                w = np.where(np.isnan(v), 0, np.clip(np.nan_to_num(v.astype(np.float64), nan=0.0, posinf=1e300, neginf=-1e300), float(info.min), float(info.max)))
                v = np.array([min(max(int(x), info.min), info.max) for x in w], dtype=info.dtype)
        elif not fdst and "sat" in op:
            info = np.iinfo((S if dst[0] == "s" else U)[width(dst)])
            v = np.clip(v.astype(np.int64), info.min, min(info.max, 2**63 - 1))
        u = encode(v, dst)
        self.put(o[0], L, u, dst, 1)
