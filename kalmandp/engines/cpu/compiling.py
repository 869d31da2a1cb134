"""How kernels and their parts are compiled: every part once, and only as far as its kernels need it.

Numba makes each function ready to be called by itself: it optimises the function and writes machine code
for it, and does both again within every function that calls it. Parts (`threads.PART`) are called by
compiled code only. `PartCompiler` therefore stops at the intermediate code of a part; optimisation and
machine code are made once, of the whole kernel. `KernelCompiler` keeps the parts of a kernel private to it,
so that no other kernel's copy of a part, optimised in another context, can take their place.
"""

from __future__ import annotations

from typing import Any

from llvmlite.binding import Linkage
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


class _NoEngine:
    """Stands for the engine that runs machine code, where there is none."""

    def set_env(self, env_name: str, env: Any) -> None:
        """Nothing to set: a part raises no Python exception."""


class PartLibrary(JITCodeLibrary):
    """Intermediate code of a part, to be linked into kernels."""

    @property
    def codegen(self):
        return _NoEngine()

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name):
        """0: a part is not loaded by itself."""
        return 0


class KernelLibrary(JITCodeLibrary):
    """A kernel with its parts in it."""

    def _optimize_final_module(self):
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == Linkage.linkonce_odr:
                function.linkage = Linkage.internal
        super()._optimize_final_module()


class _Lowering(NativeLowering):
    """Lowering into a library of the given kind."""

    kind: type

    def run_pass(self, state):
        codegen = state.targetctx.codegen()
        state.library = self.kind(codegen, state.func_id.func_qualname)
        state.library.enable_object_caching()
        return super().run_pass(state)


@register_pass(mutates_CFG=True, analysis_only=False)
class PartLowering(_Lowering):
    _name = "kalmandp_part_lowering"
    kind = PartLibrary


@register_pass(mutates_CFG=True, analysis_only=False)
class KernelLowering(_Lowering):
    _name = "kalmandp_kernel_lowering"
    kind = KernelLibrary


class _Compiler(CompilerBase):
    lowering: type

    def define_pipelines(self):
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state, name=self.lowering._name)
        manager.passes = [
            (self.lowering if kind is NativeLowering else kind, what) for kind, what in manager.passes
        ]
        manager.finalize()
        return [manager]


class PartCompiler(_Compiler):
    lowering = PartLowering


class KernelCompiler(_Compiler):
    lowering = KernelLowering
