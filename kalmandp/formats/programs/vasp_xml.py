"""VASP's vasprun.xml, read step by step: a run that was killed gives the steps that it finished.

``<calculation>`` holds the electronic steps, the structure, forces (eV/Å), stress (kB, positive under
compression) and energies (eV). ``e_fr_energy`` is the free energy, whose derivatives the forces are;
``e_wo_entrp`` and ``e_0_energy`` are not. With PSTRESS VASP writes the enthalpy there, E + pV, and pV is
taken off. The step did not converge if it has NELM electronic steps before its structure; those after it
are of linear response (LEPSILON).

Source: https://www.vasp.at/wiki/index.php/Vasprun.xml and the files of eight versions, 4.6 to 6.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from xml.etree import ElementTree

import numpy as np

from kalmandp.errors import FileError
from kalmandp.formats.programs.steps import TRUNCATED, Step, element, opened, step_makers, volume
from kalmandp.formats.programs.vasp_poscar import compare_species
from kalmandp.formats.told import Told
from kalmandp.formats.units import KILOBAR
from kalmandp.frames.frame import Frame
from kalmandp.frames.hdf5.storage import path_text, reading

WHAT = "a vasprun.xml of VASP"


def read_vasprun(
    path, *, keep_unconverged=False, ignored=None, told: Told | None = None
) -> Iterator[Callable[[], Frame]]:
    """Go through the ionic steps of a vasprun.xml; parameters and errors as `steps.frames_in`."""
    path = path_text(path)
    told = Told(ignored) if told is None else told
    with reading(path):
        file = opened(path, binary=True)
    with file:
        steps = _steps(path, file, told)
        yield from step_makers(path, steps, WHAT, keep_unconverged, lambda: path)


def _steps(path: str, file, told: Told) -> Iterator[Step]:
    symbols: list[str] = []
    parameters: dict[str, float] = {}
    begun = False
    try:
        for event, node in ElementTree.iterparse(file, events=("start", "end")):
            if event == "start":
                if node.tag == "calculation":
                    begun = True
                continue
            if node.tag == "atominfo":
                rows = node.findall("array[@name='atoms']/set/rc")
                symbols = [element((row[0].text or "").strip()) for row in rows]
                compare_species(path, symbols, told)
            elif node.tag == "i" and node.get("name") in ("NELM", "ISPIN", "PSTRESS"):
                # the first is the ground state's; a second NELM is that of linear response
                parameters.setdefault(node.get("name", ""), float(node.text or 0))
            elif node.tag == "calculation":
                yield _step(node, symbols, parameters)
                begun = False
                node.clear()
    except ElementTree.ParseError as error:
        if not symbols:
            raise FileError(f"{path}: is not a whole vasprun.xml of VASP ({error})") from None
        if begun:
            yield Step(problem=TRUNCATED)
    if parameters.get("ISPIN") == 2:
        told.ignored.add("magnetic moments")


def _step(node: ElementTree.Element, symbols: list[str], parameters: dict[str, float]) -> Step:
    tags = [child.tag for child in node]
    iterations = tags[: tags.index("structure") if "structure" in tags else None].count("scstep")
    positions, basis = (
        _array(node, f"structure/{name}")
        for name in ("varray[@name='positions']", "crystal/varray[@name='basis']")
    )
    energy = node.find("energy/i[@name='e_fr_energy']")
    if positions is None or basis is None or energy is None:
        return Step(problem="its structure or its energy is missing; expected both")
    step = Step(symbols, positions @ basis, basis, float(energy.text or "nan"))
    step.converged = iterations < parameters.get("NELM", np.inf)
    step.forces, stress = _array(node, "varray[@name='forces']"), _array(node, "varray[@name='stress']")
    # F = H − pV
    step.energy = float(energy.text or "nan") - parameters.get("PSTRESS", 0.0) * KILOBAR * volume(basis)
    if stress is not None:
        # printed with the sign of a pressure:  W = −σV
        step.virial = stress * KILOBAR * volume(basis)
    return step


def _array(node: ElementTree.Element, path: str) -> np.ndarray | None:
    found = node.find(path)
    if found is None:
        return None
    return np.array([(v.text or "").split() for v in found.findall("v")], dtype=np.float64)
