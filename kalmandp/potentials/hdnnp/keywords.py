"""The keywords of n2p2's input.nn: what each means, and which of them make the model."""

from __future__ import annotations

import re


def words_of(line: str) -> list[str]:
    """The words of a line without its comment, which # or ! begins."""
    return re.split("[#!]", line, maxsplit=1)[0].split()


#: n2p2's second names of keywords.
ALIASES = {"energy_fraction": "short_energy_fraction", "force_fraction": "short_force_fraction"}

#: Keywords that make the form of a model.
MODEL = {
    "number_of_elements": "how many elements",
    "elements": "their symbols",
    "atom_energy": "energy of a free atom, subtracted from the reference",
    "cutoff_type": "cutoff function, and its inner radius",
    "symfunction_short": "one symmetry function",
    "scale_symmetry_functions": "scale functions by their range",
    "scale_symmetry_functions_sigma": "scale functions by their standard deviation",
    "center_symmetry_functions": "take the mean from functions",
    "scale_min_short": "where the scaled range begins",
    "scale_max_short": "where it ends",
    "global_hidden_layers_short": "how many hidden layers",
    "global_nodes_short": "their widths",
    "global_activation_short": "activation of each layer, one letter each",
    "normalize_nodes": "divide what a neuron gets by its number of inputs",
    "mean_energy": "normalisation: mean energy per atom",
    "conv_energy": "normalisation: 1/spread of energies",
    "conv_length": "normalisation: factor of lengths",
}

#: Keywords of training; kept with the model, read by the trainer.
TRAINING = {
    "epochs": "passes over the training set",
    "random_seed": "seed of everything that is drawn",
    "test_fraction": "share of the structures that are test structures",
    "normalize_data_set": "ref, force or stats-only: find the normalisation from the data",
    "use_short_forces": "train on forces",
    "force_weight": "what force errors and their derivatives are multiplied by",
    "short_energy_fraction": "share of the energies that an epoch uses",
    "short_force_fraction": "share of the force components that an epoch uses",
    "force_energy_ratio": "force updates per energy update",
    "short_energy_error_threshold": "an energy is used if its error is above this share of the RMSE",
    "short_force_error_threshold": "the same for forces",
    "rmse_threshold": "the same for all properties",
    "rmse_threshold_energy": "the same for energies",
    "rmse_threshold_force": "the same for forces",
    "rmse_threshold_trials": "how many candidates are tried",
    "rmse_threshold_trials_energy": "how many energies are tried",
    "rmse_threshold_trials_force": "how many forces are tried",
    "repeated_energy_update": "after each force update an energy update with the same structure",
    "selection_mode": "how candidates are chosen: 0 at random, 1 worst first, 2 above a threshold",
    "selection_mode_energy": "the same for energies",
    "selection_mode_force": "the same for forces",
    "task_batch_size_energy": "energies of one update",
    "task_batch_size_force": "force components of one update",
    "updater_type": "0 gradient descent, 1 Kalman filter",
    "parallel_mode": "who updates in a parallel run",
    "jacobian_mode": "0 sum of the rows, 1 one row a task, 2 all rows",
    "update_strategy": "0 one filter, 1 one for each element",
    "kalman_type": "0 standard, 1 fading memory",
    "kalman_epsilon": "1/P at the beginning",
    "kalman_q0": "process noise at the beginning",
    "kalman_qtau": "its rate of decay",
    "kalman_qmin": "its smallest value",
    "kalman_eta": "1/R at the beginning",
    "kalman_etatau": "its rate of growth",
    "kalman_etamax": "its largest value",
    "kalman_lambda_short": "forgetting factor at the beginning",
    "kalman_nue_short": "its rate",
    "gradient_type": "0 fixed step, 1 Adam",
    "gradient_eta": "step of gradient descent",
    "gradient_adam_eta": "step of Adam",
    "gradient_adam_beta1": "Adam's β₁",
    "gradient_adam_beta2": "Adam's β₂",
    "gradient_adam_epsilon": "Adam's ε",
    "weights_min": "smallest weight that is drawn",
    "weights_max": "largest weight that is drawn",
    "nguyen_widrow_weights_short": "draw weights by Nguyen and Widrow's rule",
    "precondition_weights": "shift the output to the mean energy",
    "use_old_weights_short": "begin with the weights that are there",
    "main_error_metric": "which error is shown",
    "memorize_symfunc_results": "keep symmetry functions in memory",
    "print_mpi_log": "a log for each process",
    "save_symfunc": "keep symmetry functions",
    **{
        name: "when files are written"
        for name in (
            "write_trainpoints", "write_trainforces", "write_weights_epoch", "write_neuronstats",
            "write_trainlog", "write_symfunctions", "write_binstats", "write_unformatted", "write_pdb",
            "write_traincharges",
        )
    },
    **{
        name: "of charges, which this generation of networks does not have"
        for name in (
            "rmse_threshold_charge", "rmse_threshold_trials_charge", "selection_mode_charge",
            "task_batch_size_charge",
        )
    },
}  # fmt: skip

#: RuNNer's own keywords that say nothing about what is done here; n2p2 passes over them too.
RUNNER = frozenset(
    """analyze_composition analyze_error analyze_error_energy_step analyze_error_force_step bond_threshold
    calculate_final_force calculate_forces calculate_stress charge_error_threshold check_forces
    check_input_forces
    cutoff_alpha debug_mode dynforcegroup_step_short dynforcegroup_start_short electrostatic_type
    energy_threshold enable_on_the_fly_input ewald_alpha ewald_cutoff ewald_kmax find_contradictions
    fix_weights fixed_charge fixed_short_energy_error_threshold fixed_short_force_error_threshold
    fitting_unit force_threshold force_update_scaling growth_mode initialization_only
    joint_energy_force_update
    kalman_damp_short max_energy max_force mix_all_points mode nn_type nn_type_short nn_type_elec
    number_of_points optmode_short_energy optmode_short_force parallel_mode points_in_memory print_all_deriv
    print_all_short_weights print_convergence_vector print_force_components precondition_weights
    random_number_type random_order_training remove_atom_energies remove_vdw_energies runner_mode
    save_kalman_matrices
    scale_max_elec scale_min_elec screen_electrostatics separate_bias_ini_short separate_kalman_short
    short_force_group short_energy_group silent_mode use_atom_charges use_atom_energies use_damping use_ipi
    use_noisematrix use_old_scaling use_omp_mkl use_short_nn use_systematic_weights_short use_electrostatics
    vdw_type weight_analysis weight_constraint weights_max_elec weights_min_elec worst_energies_update_scaling
    write_fit_statistics write_symfunctions write_temporary_weights write_trainpoints write_weights_epoch
    regularize_fit_param pstring detailed_timing print_date_and_time md_mode""".split()
)

#: Values of keywords of `REFUSED` that change nothing.
USUAL = {name: ("2G-HDNNP", "2G", "2") for name in ("nnp_type", "nnp_gen")}
#: Keywords that would change the model, and are not done here.
REFUSED = {
    "global_symfunction_short": "the same functions for all pairs of elements; write each symfunction_short",
    "element_symfunction_short": "the same functions for one element; write each symfunction_short",
    "element_nodes_short": "widths of one element's own net",
    "element_hidden_layers_short": "depth of one element's own net",
    "element_activation_short": "activations of one element's own net",
    "element_pairsymfunction_short": "functions of a pair net",
    "nnp_type": "another generation of networks (charges, 4G); only the short-range one, 2G, is done",
    "nnp_gen": "another generation of networks (charges, 4G); only the short-range one, 2G, is done",
    "initial_hardness": "a 4G network's hardness",
    "fixed_gausswidth": "a 4G network's charges",
    "four_g_ewald_prec": "a 4G network's Ewald sum",
    "ewald_prec": "a 4G network's Ewald sum",
    "screen_electrostatics": "a 4G network's screening",
    "charge_fraction": "training of charges",
    "charge_weight": "training of charges",
    "global_nodes_charge": "a network for charges",
    "global_nodes_electrostatic": "a network for charges",
    "global_hidden_layers_electrostatic": "a network for charges",
    "global_activation_electrostatic": "a network for charges",
    "symfunction_electrostatic": "a network for charges",
    "global_nodes_pair": "a network of pairs",
    "symfunction_pair": "a network of pairs",
}

#: Letters of global_activation_short.
LETTERS = {
    "l": "linear", "t": "tanh", "s": "sigmoid", "S": "complement", "p": "softplus", "r": "relu",
    "g": "gaussian", "c": "cosine", "e": "exponential", "h": "harmonic",
}  # fmt: skip
