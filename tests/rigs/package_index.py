"""A package index in a folder, with made-up packages: what tests ask pip about instead of a real registry.

    index = PackageIndex(tmp_path / "index")
    index.add_wheel("toy", "1.0")
    subprocess.run([..., "pip", "install", "--index-url", index.url, "toy"])

pip reads the host's configuration too unless it is shut out; tests/conftest.py does that.
"""

import gzip
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

# A build backend in the package itself: nothing has to be fetched to build it.
_PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
_BACKEND = """import zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{folder}/{WHEEL}", "w") as archive:
        for path, text in FILES.items():
            archive.writestr(path, text)
    return WHEEL
"""


class PackageIndex:
    """Packages that hold nothing but their name; `content` makes two of the same version differ."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = folder.as_uri()
        folder.mkdir(parents=True)

    def add_wheel(self, name: str, version: str, content: str = "", requires: str = "") -> Path:
        """The file that was added."""
        wheel = self._place(name) / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for path, text in _files(name, version, content, requires).items():
                archive.writestr(zipfile.ZipInfo(path), text)  # its date is always the same
        return self._listed(wheel)

    def add_source(self, name: str, version: str) -> Path:
        """A package that exists as its source alone."""
        source = self._place(name) / f"{name}-{version}.tar.gz"
        wheel, files = f"{name}-{version}-py3-none-any.whl", _files(name, version, "built")
        texts = {
            "pyproject.toml": _PYPROJECT,
            "backend.py": f"WHEEL = {wheel!r}\nFILES = {files!r}\n{_BACKEND}",
            "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        }
        with gzip.GzipFile(source, "wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
            for path, text in texts.items():
                entry = tarfile.TarInfo(f"{name}-{version}/{path}")
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))
        return self._listed(source)

    def _place(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def _listed(self, file: Path) -> Path:
        names = sorted(path.name for path in file.parent.iterdir() if path.name != "index.html")
        links = [f'<a href="{name.replace("+", "%2B")}">{name}</a>' for name in names]
        (file.parent / "index.html").write_text("\n".join(links))
        return file


def pinned(name: str, version: str, *files: Path) -> str:
    """A line of a requirements file, with the hashes of `files`."""
    return " ".join([f"{name}=={version}", *(f"--hash=sha256:{sha256(file)}" for file in files)])


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _files(name: str, version: str, content: str, requires: str = "") -> dict[str, str]:
    info = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    return {
        f"{name}.py": f"VERSION = {version!r}\nCONTENT = {content!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
