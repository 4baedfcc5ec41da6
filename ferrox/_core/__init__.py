"""The compiled core.  Importing it loads the CPU backend and the operators, and makes the class Tensor whole.

Its modules are linked together, those of a folder into one shared object; BundleFinder finds them there.
"""
import sys
from importlib.machinery import ExtensionFileLoader, ModuleSpec

from ferrox._core.bundles import BUNDLES


class BundleFinder:
    """Finds a module in the shared object of its folder, which has an initialiser for every module linked into it."""

    def __init__(self):
        self.folders = {f"{folder}.{name}": folder for folder, names in BUNDLES.items() for name in names}
        self.files = {}

    def find_spec(self, name, path=None, target=None):
        folder = self.folders.get(name)
        if folder is None:
            return None
        if folder not in self.files:  # asked of the other finders: an editable installation has one of its own
            found = (each.find_spec(f"{folder}._bundle", sys.modules[folder].__path__) for each in sys.meta_path)
            self.files[folder] = next(filter(None, found)).origin
        spec = ModuleSpec(name, ExtensionFileLoader(name, self.files[folder]), origin=self.files[folder])
        spec.has_location = True
        return spec


sys.meta_path.insert(0, BundleFinder())
