"""The section ``model`` of an input for an HDNNP.

    "model": {"type": "hdnnp", "type_map": ["H", "O"], "cutoff": 6.0, "neuron": [15, 15]}

makes a set of symmetry functions from the data (`default_set`). A set of one's own is a list of lines as
n2p2 has them, or an input.nn::

    "symmetry_functions": ["H 2 O 0.5 0.0 6.0", "H 3 O O 0.1 1.0 4.0 6.0", …]
    "input_nn": "input.nn"                                  its whole model; nothing else is stated then
    "units": "atomic"                  of input_nn (or "metal"), where nothing else says them (`file_units`)

n2p2's keywords of the first weights (with "initial_weights" "n2p2" or "nguyen-widrow") and
"normalize_data_set" mean what they mean in n2p2.
"""

from __future__ import annotations

from dataclasses import MISSING, fields

from kalmandp.checks import Key, SectionReader, boolean, choice, integer, number, optional, sequence, text
from kalmandp.errors import KalmanDPError, require
from kalmandp.potentials.hdnnp.file_units import stated_units, units_of_files
from kalmandp.potentials.hdnnp.files import read_input_nn
from kalmandp.potentials.hdnnp.form import SCALINGS, HDNNPForm
from kalmandp.potentials.hdnnp.input_nn import parse_input_nn
from kalmandp.potentials.hdnnp.new import INITIAL
from kalmandp.potentials.hdnnp.normalisation import WAYS
from kalmandp.potentials.hdnnp.units import UNITS
from kalmandp.potentials.settings import ModelSettings

#: Fields of the form that an input.nn states.
OF_INPUT_NN = tuple(f.name for f in fields(HDNNPForm) if f.name != "type_map")
OF_NORMALISATION = ("mean_energy", "conv_energy", "conv_length")
#: The cut-off of a default set, Å, and the keys that say what such a set is.
CUTOFF = 6.0
OF_DEFAULT_SET = ("cutoff", "angular_cutoff", "n_radial", "n_angular", "n_functions")

_length = number(above=0.0, unit="Å")

MODEL = (
    Key("type", choice("hdnnp"), None),
    Key("type_map", sequence(text, "a list of elements", at_least=1), "type_map"),
    Key("cutoff", _length, "cutoff"),
    Key("angular_cutoff", optional(_length), "angular_cutoff"),
    Key("n_radial", optional(integer(1)), "n_radial"),
    Key("n_angular", optional(integer(0)), "n_angular"),
    Key("n_functions", integer(1), "most"),
    Key("symmetry_functions", sequence(text, "a list of lines, e.g. \"H 2 O 0.5 0.0 6.0\"", at_least=1),
        "symmetry_functions"),
    Key("input_nn", text, "input_nn"),
    Key("units", choice(*UNITS), "units"),
    Key("neuron", sequence(integer(1), "a list of layer widths"), "hidden"),
    Key("activations", sequence(text, "a name for each hidden layer and the output", at_least=1),
        "activations"),
    Key("cutoff_type", integer(0), "cutoff_kind"),
    Key("cutoff_alpha", number(at_least=0.0), "cutoff_alpha"),
    Key("scaling", choice(*SCALINGS), "scaling"),
    Key("normalize_nodes", boolean, "normalize_nodes"),
    Key("initial_weights", choice(*INITIAL), "initial"),
    Key("random_seed", integer(0), "random_seed"),
    Key("weights_min", number(), "weights_min"),
    Key("weights_max", number(), "weights_max"),
    Key("normalize_data_set", choice(*WAYS), "normalize"),
    Key("seed", optional(integer(0)), "seed"),
    Key("atom_energies", optional(sequence(optional(number(unit="eV")), "a number (eV) or null per type")),
        "atom_ener"),
    Key("rcond", optional(number(at_least=0.0)), "rcond"),
)  # fmt: skip


def read_section(read: SectionReader, value: dict) -> ModelSettings:
    """The section as `ModelSettings`; absent keys have the defaults of `HDNNPForm` and `new.new`.

    Parameters
    ----------
    read : of the input
    value : the section, an object

    Raises
    ------
    InputError
        For a key that is not supported, a value of the wrong type or range, or two ways to state one thing.
    """
    stated = read.section("model", value, MODEL)
    type_map, seed = stated.pop("type_map", None), stated.pop("seed", None)
    atom_ener, rcond = stated.pop("atom_ener", None), stated.pop("rcond", None)
    units, path, lines = (stated.pop(k, None) for k in ("units", "input_nn", "symmetry_functions"))
    paths = {name: name for name in stated if name in OF_INPUT_NN}
    if path is not None and (lines is not None or paths or type_map is not None):
        other = "symmetry_functions" if lines is not None else next(iter(paths), "type_map")
        raise read.error(f"model/{other}", value.get(other), "it in input_nn alone")
    for name in OF_DEFAULT_SET:
        if name in value and (path is not None or lines is not None):
            listed = "input_nn" if lines is None else "symmetry_functions"
            wanted = f"none beside {listed}: it is of a set that is made from the data"
            raise read.error(f"model/{name}", value[name], wanted)
    if path is not None:
        beside = read.folder / path
        path = str(beside) if beside.exists() else path
        found = _checked(read, "model/input_nn", path, lambda: _input_nn(path, units))
        form, type_map = found.form, found.form.type_map
        if "normalize" in stated:
            if tuple(getattr(form, name) for name in OF_NORMALISATION) != (0.0, 1.0, 1.0):
                wanted = "none beside mean_energy, conv_energy and conv_length, which input_nn states"
                raise read.error("model/normalize_data_set", stated["normalize"], wanted)
            stated["atom_energy_t"] = tuple(found.atom_energy_t.tolist())
        stated |= {name: getattr(form, name) for name in OF_INPUT_NN}
        of_data = OF_NORMALISATION if "normalize" in stated else ()
        paths = {f"{name} of input_nn": name for name in OF_INPUT_NN if name not in of_data}
    elif lines is not None:
        if type_map is None:
            raise read.error("model/type_map", None, "the elements of the symmetry functions")
        stated["functions"] = _checked(
            read, "model/symmetry_functions", lines, lambda: _functions(type_map, lines)
        )
        paths["symmetry_functions"] = "functions"
    if "normalize" in stated and atom_ener is not None:
        wanted = "none with normalize_data_set, whose mean_energy is part of them"
        raise read.error("model/atom_energies", list(atom_ener), wanted)
    if "hidden" in stated and "activations" not in stated:
        stated["activations"] = ("tanh",) * len(stated["hidden"]) + ("linear",)
    if "functions" in stated:
        unit = stated.get("length_unit", 1.0)
        stated["cutoff"] = unit * max(f.rc for rows in stated["functions"] for f in rows)
    own = {f.name: f.default for f in fields(HDNNPForm) if f.default is not MISSING and f.name != "scaling"}
    choices = {**own, "cutoff": CUTOFF, **stated}
    return ModelSettings(
        "hdnnp", type_map, choices["cutoff"], choices, paths, atom_ener, rcond,
        () if seed is None else (seed,),
    )  # fmt: skip


def _checked(read: SectionReader, path: str, value, what):
    try:
        return what()
    except KalmanDPError as error:
        raise read.error(path, value, f"symmetry functions that can be read ({error})") from None


def _input_nn(path: str, units: str | None):
    """An input.nn in the units that are given, or that its files say."""
    stated = stated_units(path)
    wanted = f"none but {stated}, as {path} says"
    require(units is None or stated in ("", units), "model/units", units, wanted)
    return read_input_nn(path, units or units_of_files(path))


def _functions(type_map, lines):
    """The functions of each element, by atomic number, from n2p2's lines (in Å)."""
    head = [f"number_of_elements {len(type_map)}", f"elements {' '.join(type_map)}", "cutoff_type 2"]
    head += ["global_hidden_layers_short 1", "global_nodes_short 1", "global_activation_short t l"]
    rows = [f"symfunction_short {line.removeprefix('symfunction_short').strip()}" for line in lines]
    return parse_input_nn("\n".join(rows + head), "symmetry_functions", "metal").form.functions
