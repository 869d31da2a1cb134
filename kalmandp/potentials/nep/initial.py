"""A new NEP."""
import numpy as np

from kalmandp.geometry.pairs import gather
from kalmandp.potentials.nep.descriptor import NEPDescriptor
from kalmandp.potentials.nep.form import NEPForm
from kalmandp.potentials.protocol import New, Parameters

SCALINGS = ("std", "minmax")

def new(type_map, frames, rng, *, scaling="std", **choices):
    form = NEPForm(tuple(type_map), **choices)
    layout = form.layout()
    w = np.zeros(layout.size)
    for t in range(form.n_types):
        for name in ("c_radial", "c_angular"):
            c = layout.view(w, f"{name}.{t}")
            n = c.shape[0]
            a = rng.normal(size=(n, c[0].size))
            q, _ = np.linalg.qr(a.T) if a.shape[1] >= n else (a.T, None)
            c[...] = q.T.reshape(c.shape)
        net = layout.fitting(w, t)
        net[0].W[...] = rng.normal(0, 1/np.sqrt(form.size), net[0].W.shape)
        net[0].b[...] = rng.normal(0, 1, net[0].b.shape)
        net[1].W[...] = rng.normal(0, 1/np.sqrt(form.neuron), net[1].W.shape)
    d = NEPDescriptor(form)
    qs = []
    for k in np.unique(np.linspace(0, len(frames)-1, min(len(frames), 60)).astype(int)):
        g = gather(frames[int(k)], form.type_map, form.cutoff)
        env = d.environment({"q_scaler": np.ones(form.size)}, g)
        qs.append(d.forward(Parameters(d, layout, w, np.zeros(form.n_types)), env)[0])
    q = np.concatenate(qs)
    s = 1/np.maximum(q.std(0), 1e-6) if scaling == "std" else 1/np.maximum(np.ptp(q, axis=0), 1e-6)
    # centre: b takes the mean
    for t in range(form.n_types):
        net = layout.fitting(w, t)
        net[0].b[...] -= (q.mean(0)*s) @ net[0].W
    return New(form, w, {"q_scaler": s}, {})
