"""What scripts/libtorch/unpack.py takes out of wheels, and what it refuses."""

import pathlib
import stat
import sys
import tempfile
import unittest
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "libtorch"))
import unpack

LIBRARIES = ["torch/lib/libtorch_cpu.so", "torch/lib/libtorch.so", "torch/lib/libc10.so"]


class Unpacking(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.root = pathlib.Path(scratch.name)
        self.wheels = self.root / "wheels"
        self.wheels.mkdir()
        self.out = self.root / "libtorch"

    def wheel(self, *names: str | zipfile.ZipInfo) -> None:
        with zipfile.ZipFile(self.wheels / "torch-1-py3-none-any.whl", "w") as archive:
            for name in names:
                archive.writestr(name, "content")

    def unpack(self, flavour: str = "cpu") -> set[str]:
        unpack.unpack(self.wheels, self.out, flavour, "2.11.0")
        return {str(path.relative_to(self.out)) for path in self.out.rglob("*") if not path.is_dir()}

    def refused(self, name: str | zipfile.ZipInfo, reason: str) -> None:
        self.wheel(*LIBRARIES, name)
        with self.assertRaisesRegex(unpack.Refused, reason):
            self.unpack()
        outside = [path for path in self.root.rglob("evil*")]
        self.assertEqual(outside, [])

    def test_libraries_and_headers_are_laid_out_and_python_is_not(self):
        self.wheel(*LIBRARIES, "torch/include/ATen/ATen.h", "torch/__init__.py", "torch/lib/libtorch_python.so",
                   "torch/lib/libtorch_cuda.so", "torch/lib/libgomp-a1.so.1")
        laid_out = {"lib/libtorch_cpu.so", "lib/libtorch.so", "lib/libc10.so", "lib/libgomp-a1.so.1", "lib/libgomp.so",
                    "lib/libgomp.so.1", "include/ATen/ATen.h", "build-version"}
        self.assertEqual(self.unpack(), laid_out)
        self.assertEqual((self.out / "build-version").read_text(), "2.11.0\n")

    def test_cuda_has_its_libraries_too(self):
        self.wheel(*LIBRARIES, "torch/lib/libtorch_cuda.so", "nvidia/cu13/lib/libcublas.so.13")
        self.assertLessEqual({"lib/libtorch_cuda.so", "lib/libcublas.so.13"}, self.unpack("cuda"))

    def test_a_name_that_climbs_is_refused(self):
        self.refused("torch/include/../../../evil.h", "leads out of its folder")

    def test_an_absolute_name_is_refused(self):
        self.refused("/tmp/lib/evil.so", "leads out of its folder")

    def test_a_link_is_refused(self):
        link = zipfile.ZipInfo("torch/include/evil")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        self.refused(link, "is a link")

    def test_a_wheel_that_lacks_libraries_is_refused(self):
        self.wheel("torch/lib/libtorch.so")
        with self.assertRaisesRegex(unpack.Refused, "lack libtorch_cpu.so, libc10.so"):
            self.unpack()


if __name__ == "__main__":
    unittest.main()
