//! Functions of CPython that stand between a caller and what it calls, 3.8 to 3.15.
//!
//! Names alone are told apart: ask about frames of the interpreter's own file (and, of
//! [`root_internal`], the C library's), since anybody may call a function `call_function`.

/// Suffixes that compilers give to parts and copies of a function, a number behind them or not.
const SUFFIXES: [&str; 10] = [
    "cold",
    "part",
    "constprop",
    "isra",
    "lto_priv",
    "llvm",
    "localalias",
    "clone",
    "warm",
    "hot",
];

/// A function's name without what compilers append to it: `f.constprop.0.cold` is `f`.
#[must_use]
pub fn without_suffixes(name: &str) -> &str {
    let mut base = name;
    while let Some((rest, last)) = base.rsplit_once('.') {
        let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
        let word = if is_number {
            rest.rsplit_once('.')
        } else {
            Some((rest, last))
        };
        match word {
            Some((rest, word)) if !rest.is_empty() && SUFFIXES.contains(&word) => base = rest,
            _ => break,
        }
    }
    base
}

/// Families of the call machinery, by how their names begin.
const MACHINERY: [&str; 49] = [
    // Python/ceval.c: the loop and the ways into it. `_TAIL_CALL_` are its opcodes since 3.14.
    "_PyEval_EvalFrame",
    "_PyEval_EvalCode",
    "_PyEvalFrame",
    "PyEval_EvalFrame",
    "PyEval_EvalCode",
    "PyEval_Call",
    "_TAIL_CALL_",
    "_PyJIT",
    "_Py_LazyJit",
    // Objects/call.c
    "PyObject_Call",
    "_PyObject_Call",
    "PyObject_Vectorcall",
    "_PyObject_Vectorcall",
    "_PyObject_FastCall",
    "PyVectorcall_",
    "_PyVectorcall_",
    "_PyFunction_Vectorcall",
    "_PyFunction_FastCall",
    "_Py_EnterRecursiveCall",
    "_Py_LeaveRecursiveCall",
    // Python/ceval.c: what the opcodes of calls have in common since 3.15
    "_PyCallMethodDescriptor",
    "_Py_BuiltinCall",
    "_Py_CallBuiltinClass",
    "_Py_VectorCall",
    // Objects/methodobject.c, Objects/descrobject.c
    "_PyCFunction_",
    "_PyMethodDef_RawFastCall",
    "cfunction_vectorcall_",
    "cfunction_call",
    "method_vectorcall",
    "wrapperdescr_",
    // Objects/typeobject.c: special methods
    "slot_tp_",
    "slot_nb_",
    "slot_sq_",
    "slot_mp_",
    "slot_am_",
    "slot_bf_",
    "_Py_slot_tp_",
    "call_unbound",
    "vectorcall_maybe",
    "maybe_call_special",
    "_PyObject_MaybeCallSpecial",
    // Objects/genobject.c: generators and coroutines
    "gen_send",
    "_PyGen_",
    "PyGen_am_send",
    "coro_wrapper_",
    "async_gen_",
    // Python/perf_trampoline.c, and the names that it gives to what it makes
    "_Py_trampoline_func",
    "py::",
    // Python/pythonrun.c, below `exec` of a text
    "PyRun_String",
];

/// Single functions of the call machinery, in the order of the alphabet.
const MACHINERY_NAMES: [&str; 67] = [
    "PyCFunction_Call",
    "PyIter_Send",
    "_PyEval_FrameClearAndPop",
    "_PyEval_MakeFrameVector",
    "_PyEval_Vector",
    "_PyObject_MakeTpCall",
    "_PyThreadState_PopFrame",
    "_PyThreadState_PushFrame",
    "_PyTier2Interpreter",
    "_Py_CheckFunctionResult",
    "_Py_CheckSlotResult",
    "_gen_throw",
    "call_function",
    "call_maybe",
    "call_method",
    "classmethoddescr_call",
    "clear_thread_frame",
    "do_call",
    "do_call_core",
    "function_code_fastcall",
    "gen_close",
    "gen_close_iter",
    "gen_iternext",
    "gen_throw",
    "instancemethod_call",
    "lookup_maybe_method",
    "lookup_method",
    "method_call",
    "methoddescr_call",
    "object_vacall",
    "py_trampoline_evaluator",
    "run_eval_code_obj",
    "run_mod",
    "sm_call",
    "trace_call_function",
    "type_call",
    "type_vectorcall",
    "vectorcall_method",
    "vectorcall_unbound",
    "wrap_binaryfunc",
    "wrap_binaryfunc_l",
    "wrap_binaryfunc_r",
    "wrap_buffer",
    "wrap_call",
    "wrap_del",
    "wrap_delattr",
    "wrap_delitem",
    "wrap_descr_delete",
    "wrap_descr_get",
    "wrap_descr_set",
    "wrap_hashfunc",
    "wrap_indexargfunc",
    "wrap_init",
    "wrap_inquirypred",
    "wrap_lenfunc",
    "wrap_next",
    "wrap_objobjargproc",
    "wrap_objobjproc",
    "wrap_releasebuffer",
    "wrap_setattr",
    "wrap_sq_delitem",
    "wrap_sq_item",
    "wrap_sq_setitem",
    "wrap_ternaryfunc",
    "wrap_ternaryfunc_r",
    "wrap_unaryfunc",
    "wrapper_call",
];

/// Functions that begin like the machinery and are something else: memory, statistics.
const NOT_MACHINERY: [&str; 4] = [
    "PyObject_Calloc",
    "_PyObject_Calloc",
    "_PyCFunction_DebugMallocStats",
    "_PyGen_FetchStopIterationValue",
];

/// How functions of the same families end that do the work of a type, and call nothing.
const NOT_MACHINERY_ENDS: [&str; 6] = [
    "_dealloc",
    "_traverse",
    "_clear",
    "_repr",
    "_get_doc",
    "_get_text_signature",
];

/// Whether a function is call machinery of the interpreter: between a Python frame and a C function
/// that people know (`builtin_sorted`, `list_sort_impl`, an extension's own), or another Python
/// frame. It is folded away from merged stacks.
#[must_use]
pub fn interpreter_internal(name: &str) -> bool {
    let name = without_suffixes(name);
    let other = NOT_MACHINERY.contains(&name)
        || NOT_MACHINERY_ENDS.iter().any(|end| name.ends_with(end)) && !name.starts_with("py::");
    if other {
        return false;
    }
    MACHINERY.iter().any(|family| name.starts_with(family)) || MACHINERY_NAMES.contains(&name)
}

/// Families of functions below the first Python frame, by how their names begin.
const ROOT: [&str; 11] = [
    "pymain_",
    "pyrun_",
    "PyRun_",
    "_PyRun_",
    "__libc_start_",
    "libc_start_",
    "__clone",
    "__GI___clone",
    "__GI_clone",
    "_dl_start",
    "_dl_relocate_static_pie",
];

/// Single functions below the first Python frame. `start` and `_start_c` are musl's.
const ROOT_NAMES: [&str; 18] = [
    "Py_BytesMain",
    "Py_Main",
    "Py_RunMain",
    "_Py_UnixMain",
    "_start",
    "_start_c",
    "bootstrap_pythread",
    "clone",
    "clone3",
    "generic_start_main",
    "main",
    "pythread_wrapper",
    "run_eval_code_obj",
    "run_mod",
    "start",
    "start_thread",
    "t_bootstrap",
    "thread_run",
];

/// Whether a function lies between the entry of a process or a thread and its first Python frame.
#[must_use]
pub fn root_internal(name: &str) -> bool {
    let name = without_suffixes(name);
    ROOT.iter().any(|family| name.starts_with(family)) || ROOT_NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_of_compilers() {
        for (name, base) in [
            ("_PyEval_EvalFrameDefault.cold", "_PyEval_EvalFrameDefault"),
            ("call_maybe.constprop.0", "call_maybe"),
            ("f.part.0.isra.0", "f"),
            ("f.constprop.0.cold.12", "f"),
            ("f.lto_priv.0.llvm.1234567", "f"),
            ("PyObject_IsInstance.localalias", "PyObject_IsInstance"),
            ("main.main", "main.main"),
            ("f.0", "f.0"),
            (".cold", ".cold"),
            ("f", "f"),
            ("", ""),
        ] {
            assert_eq!(without_suffixes(name), base, "{name}");
        }
    }

    #[test]
    fn machinery_of_all_versions() {
        for name in [
            "_PyEval_EvalFrameDefault",
            "_PyEval_EvalFrameDefault.cold",
            "_PyEval_EvalFrame",
            "_PyEval_Vector",
            "_PyEval_EvalCodeWithName",
            "PyEval_EvalCodeEx",
            "PyEval_EvalFrameEx",
            "_PyFunction_Vectorcall",
            "_PyFunction_FastCallDict",
            "function_code_fastcall",
            "call_function",
            "do_call_core",
            "trace_call_function",
            "PyObject_CallFunctionObjArgs",
            "PyObject_CallFinalizerFromDealloc",
            "_PyObject_CallMethodIdObjArgs",
            "_PyObject_Call_Prepend",
            "_PyObject_FastCall_Prepend",
            "_PyObject_VectorcallTstate",
            "PyObject_VectorcallMethod",
            "PyVectorcall_Call",
            "_PyVectorcall_Call",
            "object_vacall",
            "cfunction_vectorcall_FASTCALL_KEYWORDS_METHOD",
            "cfunction_call_varargs",
            "cfunction_call",
            "_PyCFunction_FastCallDict",
            "_PyMethodDef_RawFastCallKeywords",
            "method_vectorcall_VARARGS_KEYWORDS",
            "method_vectorcall",
            "vectorcall_method.constprop.0",
            "vectorcall_maybe.constprop.0",
            "slot_tp_call",
            "slot_nb_bool",
            "slot_sq_item",
            "slot_mp_subscript",
            "slot_am_await",
            "slot_bf_getbuffer",
            "_Py_slot_tp_getattr_hook",
            "wrap_init",
            "wrap_sq_setitem",
            "wrapperdescr_call",
            "wrapper_call",
            "type_call",
            "call_unbound_noarg",
            "lookup_maybe_method",
            "gen_send_ex2",
            "gen_iternext",
            "_gen_throw",
            "_PyGen_Send",
            "coro_wrapper_send",
            "async_gen_asend_send",
            "method_call",
            "_PyObject_MakeTpCall",
            "_TAIL_CALL_CALL_PY_EXACT_ARGS",
            "_PyEvalFramePushAndInit_Ex",
            "_PyCallMethodDescriptorFast_StackRef",
            "_Py_BuiltinCallFastWithKeywords_StackRef",
            "_Py_VectorCallInstrumentation_StackRefSteal",
            "_PyObject_MaybeCallSpecialNoArgs",
            "_PyJIT_Entry",
            "py::_repr:/srv/app_dealloc",
            "py_trampoline_evaluator",
            "py::<module>:/srv/app.py",
        ] {
            assert!(interpreter_internal(name), "{name}");
        }
    }

    #[test]
    fn what_people_know_stays() {
        for name in [
            "builtin_exec",
            "builtin_eval",
            "builtin_sorted",
            "builtin___build_class__",
            "list_sort_impl",
            "list_vectorcall",
            "dict_vectorcall",
            "map_vectorcall",
            "zlib_compress",
            "_functools_reduce",
            "functools_reduce",
            "partial_vectorcall",
            "lru_cache_call",
            "itemgetter_call",
            "task_step",
            "PyInit__io",
            "PyImport_ImportModuleLevelObject",
            "PyObject_Calloc",
            "_PyObject_Calloc",
            "async_gen_asend_dealloc",
            "coro_wrapper_traverse",
            "wrapperdescr_get_doc",
            "PyObject_GetAttr",
            "_PyObject_Malloc",
            "_PyObject_GenericGetAttrWithDict.cold",
            "PyDict_SetItem",
            "gc_collect_main",
            "take_gil",
            "_PyEval_MakePendingCalls",
            "_PyPegen_run_parser",
            "main",
            "wrap_socket",
            "slot_machine",
            "",
        ] {
            assert!(!interpreter_internal(name), "{name}");
        }
    }

    #[test]
    fn roots() {
        for name in [
            "_start",
            "__libc_start_main",
            "__libc_start_main_impl",
            "__libc_start_call_main",
            "main",
            "Py_BytesMain",
            "Py_RunMain",
            "pymain_run_python.constprop.0",
            "pymain_run_module",
            "_PyRun_AnyFileObject",
            "_PyRun_SimpleFileObject",
            "PyRun_SimpleFileExFlags",
            "pyrun_file",
            "run_mod",
            "run_eval_code_obj",
            "clone",
            "clone3",
            "__clone3",
            "start_thread",
            "pythread_wrapper",
            "thread_run",
            "t_bootstrap",
        ] {
            assert!(root_internal(name), "{name}");
        }
        for name in [
            "builtin_exec",
            "main.main",
            "mainloop",
            "threading_run",
            "restart",
            "",
        ] {
            assert!(!root_internal(name), "{name}");
        }
    }
}
