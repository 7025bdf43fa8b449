"""Builds the C++ module, and where there is nvcc the CUDA module, with pybind11 and ninja.

No torch is needed to build, no network, no GPU. Where nothing can compile C++ the package installs
all the same: the build prints one warning with the cause, and the ops run in plain PyTorch. So it
does where the CUDA module does not compile: the other backends run.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_namespace_packages, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError

SOURCES = ["csrc/bindings_cpu.cpp", *sorted(str(path) for path in Path("csrc/cpu").glob("*.cpp"))]
HEADERS = sorted(str(path) for path in Path("csrc").rglob("*.h"))
CUDA_SOURCES = [
    "csrc/bindings_cuda.cpp",
    *sorted(str(path) for path in Path("csrc/cuda").glob("*.cu")),
]
CUDA_HEADERS = sorted(str(path) for path in Path("csrc/cuda").glob("*.cuh"))

# Portable: no -march=native, so that a wheel runs on every CPU of its architecture, and no
# -ffast-math, so that sums are added in the order in which they are written.
COMPILE_FLAGS = [
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-pthread",
]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
# GCC takes the undefined registers in its own AVX-512 headers for mistakes.
AVX512 = [
    *AVX2,
    *(f"-mavx512{part}" for part in ("f", "bw", "vl", "dq")),
    "-Wno-maybe-uninitialized",
]
# The innermost loops are compiled once for each instruction set and chosen when they run. A file
# whose flags the compiler does not know is compiled without them, and is then empty.
FILE_FLAGS = {
    # At -O3 the plain loops of the serial form take three times as long to compile.
    "kernels_serial.cpp": ["-O2"],
    "kernels_avx2.cpp": AVX2,
    "kernels_avx512.cpp": AVX512,
    "kernels_avx512_bf16.cpp": [*AVX512, "-mavx512bf16"],
    # Without these promises (that nobody asks for errno or traps; results stay the same) the loops
    # are not vectorised.
    "tone_map.cpp": ["-fno-math-errno", "-fno-trapping-math"],
}
LINK_FLAGS = ["-shared", "-pthread"]
# Names of sanitizers with commas between, as -fsanitize takes them: `make sanitize`.
if sanitizers := os.environ.get("VILAMP_SANITIZE"):
    sanitize = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    COMPILE_FLAGS += [*sanitize, "-O1", "-g", "-fno-omit-frame-pointer"]
    LINK_FLAGS += sanitize
if sys.platform == "darwin":
    LINK_FLAGS += ["-undefined", "dynamic_lookup"]

# FORCE_CUDA=1: an nvcc that is missing or fails is an error; FORCE_CUDA=0: no CUDA module.
FORCE_CUDA = os.environ.get("FORCE_CUDA", "")
# Machine code for these compute capabilities, and PTX of the last one for later chips. Code for
# sm_80 runs on sm_86 and sm_89 too; it is compiled for them when VILAMP_CUDA_ARCHS says so.
CUDA_ARCHS = re.split("[ ,;]+", os.environ.get("VILAMP_CUDA_ARCHS", "80 90 100").strip())
# The static CUDA runtime needs no library of CUDA but the driver, which it looks for when used.
NVCC_FLAGS = ["-std=c++17", "-O3", "--threads=2", "-cudart=static", "-Xcompiler=-fPIC"]
NVCC_FLAGS += ["-Xcompiler=-fvisibility=hidden"]


class NinjaBuild(build_ext):
    """Compile and link each extension by a `build.ninja` written next to its objects."""

    def build_extension(self, ext):
        folder = (Path(self.build_temp) / ext.name).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        describe, without = NINJA_FILES[ext.name]
        try:
            (folder / "build.ninja").write_text(describe(ext, target))
            subprocess.run([find_ninja(), "-C", str(folder)], check=True)
        except (CompileError, ImportError, OSError, subprocess.CalledProcessError) as error:
            # An optional extension: setuptools prints this as a warning and goes on.
            raise CompileError(f"{without}: {error}") from error


class BuildWithSources(build_py):
    """Put the CUDA sources into the package: without nvcc, CuPy compiles them when it runs."""

    def run(self):
        super().run()
        if self.editable_mode:
            return  # they are found in the repository
        target = Path(self.build_lib) / "vilamp_kernels" / "cuda" / "csrc"
        target.mkdir(parents=True, exist_ok=True)
        for source in (*CUDA_SOURCES[1:], *CUDA_HEADERS):
            shutil.copy(source, target)


def find_compiler():
    """The C++ compiler: $CXX, or the first of the usual names."""
    if named := os.environ.get("CXX"):
        return named
    for name in ("c++", "g++", "clang++"):
        if path := shutil.which(name):
            return path
    raise CompileError("no C++ compiler found (install g++ or clang++, or set CXX)")


def find_nvcc():
    """The compiler of CUDA: below $CUDA_HOME or $CUDA_PATH, or on the PATH; None without one."""
    for root in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")):
        if root and (Path(root) / "bin" / "nvcc").exists():
            return str(Path(root) / "bin" / "nvcc")
    return shutil.which("nvcc")


def wants_cuda():
    """Whether to build the CUDA module."""
    if FORCE_CUDA == "0" or sanitizers or sys.platform != "linux":
        return False
    return FORCE_CUDA == "1" or find_nvcc() is not None


def find_ninja():
    """The ninja of the Python package, or else one on the PATH."""
    try:
        import ninja
    except ImportError:
        if path := shutil.which("ninja"):
            return path
        raise
    return str(Path(ninja.BIN_DIR) / "ninja")


def known_flags(compiler, flags):
    """The flags, if the compiler takes them all; none otherwise."""
    command = [*shlex.split(compiler), *flags, "-x", "c++", "-fsyntax-only", os.devnull]
    return flags if subprocess.run(command, capture_output=True).returncode == 0 else []


def ninja_file(ext, target):
    """The text of a build.ninja that compiles the sources of `ext` and links them to `target`."""
    import pybind11

    compiler = find_compiler()

    root = Path(__file__).parent.resolve()
    includes = [root / "csrc" / "include", pybind11.get_include(), sysconfig.get_path("include")]
    lines = [
        f"cxx = {compiler}",
        f"cflags = {' '.join(COMPILE_FLAGS)} {' '.join(f'-I{quote(path)}' for path in includes)}",
        f"ldflags = {' '.join(LINK_FLAGS)}",
        "rule compile",
        "  command = $cxx $cflags $own -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        "  command = $cxx $in $ldflags -o $out",
    ]
    objects = [f"{Path(source).stem}.o" for source in ext.sources]
    for source, built in zip(ext.sources, objects, strict=True):
        lines.append(f"build {built}: compile {escape(root / source)}")
        if flags := FILE_FLAGS.get(Path(source).name):
            lines.append(f"  own = {' '.join(known_flags(compiler, flags))}")
    lines.append(f"build {escape(target)}: link {' '.join(objects)}")
    return "\n".join(lines) + "\n"


def cuda_ninja_file(ext, target):
    """The same for the CUDA module: nvcc compiles all of it, and knows its own headers."""
    import pybind11

    nvcc = find_nvcc()
    if nvcc is None:
        raise CompileError("no nvcc found (set CUDA_HOME, or put it on the PATH)")
    known = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True)
    archs = [arch for arch in CUDA_ARCHS if f"compute_{arch}" in known.stdout.split()]
    unknown = [arch for arch in CUDA_ARCHS if arch not in archs]
    if not archs:
        raise CompileError(f"{nvcc} knows none of the architectures {', '.join(CUDA_ARCHS)}")
    if unknown:
        print(f"{nvcc} does not list {', '.join(unknown)}: not compiled for", file=sys.stderr)
    built_for = [*(f"sm_{arch}" for arch in archs), f"compute_{archs[-1]}"]
    flags = [*NVCC_FLAGS, f"-DVILAMP_CUDA_BUILT_FOR={'+'.join(built_for)}"]
    flags += [f"-gencode=arch={code.replace('sm_', 'compute_')},code={code}" for code in built_for]
    if host := os.environ.get("CXX"):
        flags.append(f"-ccbin={host}")
    includes = [pybind11.get_include(), sysconfig.get_path("include")]
    root = Path(__file__).parent.resolve()
    lines = [
        f"nvcc = {nvcc}",
        f"flags = {' '.join(flags)} {' '.join(f'-I{quote(path)}' for path in includes)}",
        "rule compile",
        "  command = $nvcc $flags -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        "  command = $nvcc $flags -shared $in -o $out",
    ]
    objects = [f"{Path(source).stem}.o" for source in ext.sources]
    for source, built in zip(ext.sources, objects, strict=True):
        lines.append(f"build {built}: compile {escape(root / source)}")
    lines.append(f"build {escape(target)}: link {' '.join(objects)}")
    return "\n".join(lines) + "\n"


NINJA_FILES = {
    "vilamp_kernels._cpu": (
        ninja_file,
        "the ops will run in plain PyTorch, without the C++ module",
    ),
    "vilamp.video._tone_map": (ninja_file, "HDR pictures will be converted by NumPy"),
    "vilamp_kernels._cuda": (cuda_ninja_file, "the CUDA module is not built, other backends run"),
}
"""By extension: what describes its build, and what it means when that fails."""


def extensions():
    found = [Extension("vilamp_kernels._cpu", sources=SOURCES, depends=HEADERS, optional=True)]
    source = "csrc/video/tone_map.cpp"
    found.append(Extension("vilamp.video._tone_map", sources=[source], optional=True))
    if wants_cuda():
        found.append(
            Extension(
                "vilamp_kernels._cuda",
                sources=CUDA_SOURCES,
                depends=CUDA_HEADERS,
                optional=FORCE_CUDA != "1",
            )
        )
    return found


def escape(path):
    """A path as ninja wants it in a build line."""
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def quote(path):
    """A path as the compiler's command line wants it."""
    return "'" + str(path).replace("$", "$$") + "'"


setup(
    packages=find_packages(".", include=["vilamp_kernels*"])
    # To setuptools a folder of data files is a package too, and it warns of any that is not listed.
    + find_namespace_packages("python", include=["vilamp*"], exclude=["*__pycache__*"]),
    ext_modules=extensions(),
    cmdclass={"build_ext": NinjaBuild, "build_py": BuildWithSources},
)
