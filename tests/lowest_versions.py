"""Prints the lowest version that each adapter declares for each of its dependencies, as pip constraints.

python tests/lowest_versions.py integrations/*/pyproject.toml
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def lowest(pyproject: Path) -> Iterable[str]:
    for text in tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]:
        requirement = Requirement(text)
        bounds = [part.version for part in requirement.specifier if part.operator == ">="]
        if len(bounds) != 1:
            raise SystemExit(f"{pyproject}: `{text}` needs one lower bound")
        if requirement.name != "gliclass-rerank":
            yield f"{requirement.name}=={bounds[0]}"


if __name__ == "__main__":
    print("\n".join(sorted({line for path in sys.argv[1:] for line in lowest(Path(path))})))
