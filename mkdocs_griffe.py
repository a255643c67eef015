"""For mkdocs.yml: how Griffe, which reads the sources and runs nothing, is to take them."""

import re

import griffe


class House(griffe.Extension):
    """A name in the `__all__` of a package is what is imported under it; results have no names.

    `tag_jax.optim.mgda` is a function, and the module that it comes from has the same path: Python
    lets the import win, Griffe would let the module win. And in 'A vector: ...' under Returns,
    Griffe would take 'A vector' for the type of what is returned; so it is told the type.
    """

    def on_package(self, *, pkg, **_):
        """Puts what is imported in the place of modules of the same name."""
        for package in pkg.modules.values():
            for name in map(str, package.exports or ()):
                for module in list(package.modules.values()):
                    if name in module.members and not module.members[name].is_alias:
                        alias = griffe.Alias(name, module.members[name], parent=package)
                        package.members[name] = alias

    def on_function(self, *, func, **_):
        """Writes the type of the result before its description."""
        if func.docstring:
            begin = rf'\g<0>{func.returns or "object"}: '
            func.docstring.value = re.sub(r'^Returns:\n +', begin, func.docstring.value, flags=re.M)
