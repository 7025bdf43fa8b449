from setuptools import find_packages, setup

setup(
    packages=find_packages(".", include=["vilamp_kernels*"])
    + find_packages("python", include=["vilamp*"]),
)
