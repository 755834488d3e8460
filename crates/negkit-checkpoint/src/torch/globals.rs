//! Which Python names a pickle may use, and what they mean here.

/// A function or class whose call is interpreted. All others give an opaque object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// A dictionary, from nothing or from pairs.
    Dict,
    /// A tuple, from a list or tuple.
    Sequence,
    /// A tensor from storage, offset, size and stride.
    RebuildTensor,
    /// The first argument as it is: a parameter is its data.
    Unwrap,
    /// `(function, type, arguments, state)`: what the function makes of the arguments.
    RebuildFromType,
    /// `(class, base, state)`: an object of the class.
    Reconstruct,
}

pub(crate) fn known(module: &str, name: &str) -> Option<Known> {
    Some(match (module, name) {
        ("collections", "OrderedDict" | "defaultdict" | "Counter")
        | ("builtins" | "__builtin__", "dict") => Known::Dict,
        ("torch", "Size") | ("builtins" | "__builtin__", "tuple" | "list") => Known::Sequence,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => {
            Known::RebuildTensor
        }
        (
            "torch._utils",
            "_rebuild_parameter"
            | "_rebuild_parameter_with_state"
            | "_rebuild_device_tensor_from_cpu_tensor",
        )
        | ("torch.nn.parameter", "Parameter" | "Buffer")
        | ("torch.jit._pickle", "restore_type_tag") => Known::Unwrap,
        ("torch._tensor", "_rebuild_from_type_v2") => Known::RebuildFromType,
        ("copyreg" | "copy_reg", "_reconstructor" | "__newobj__") => Known::Reconstruct,
        _ => return None,
    })
}

/// Modules that reach the operating system, run code or load more of it. Weights need none.
const FORBIDDEN_MODULES: &[&str] = &[
    "_io",
    "_pickle",
    "_posixsubprocess",
    "_socket",
    "_thread",
    "aiohttp",
    "asyncio",
    "bdb",
    "cProfile",
    "cloudpickle",
    "code",
    "codeop",
    "commands",
    "concurrent",
    "ctypes",
    "dill",
    "distutils",
    "doctest",
    "ensurepip",
    "ftplib",
    "http",
    "httplib",
    "idlelib",
    "imaplib",
    "imp",
    "importlib",
    "io",
    "joblib",
    "marshal",
    "mmap",
    "multiprocessing",
    "nt",
    "ntpath",
    "operator",
    "os",
    "pdb",
    "pexpect",
    "pickle",
    "pip",
    "pkgutil",
    "poplib",
    "popen2",
    "posix",
    "posixpath",
    "profile",
    "psutil",
    "pty",
    "pydoc",
    "requests",
    "runpy",
    "setuptools",
    "shelve",
    "shutil",
    "signal",
    "site",
    "smtplib",
    "socket",
    "socketserver",
    "ssl",
    "subprocess",
    "sys",
    "sysconfig",
    "tarfile",
    "telnetlib",
    "timeit",
    "trace",
    "urllib",
    "urllib2",
    "venv",
    "webbrowser",
    "xmlrpc",
    "zipfile",
    "zipimport",
];

/// Forbidden wherever they stand in a dotted path: `module.os` and `name.os.system` reach the same
/// functions through another module's imports. Only names that no library gives its own modules.
const FORBIDDEN_PARTS: &[&str] = &[
    "__builtin__",
    "__builtins__",
    "__globals__",
    "__import__",
    "__subclasses__",
    "builtins",
    "ctypes",
    "eval",
    "exec",
    "execfile",
    "getattr",
    "importlib",
    "os",
    "popen",
    "posix",
    "pty",
    "runpy",
    "setattr",
    "shutil",
    "socket",
    "subprocess",
    "sys",
    "system",
];

/// Built-in functions that run code, reach into objects or open files. Types such as `set` and pure
/// functions such as `max` (in a scheduler's arguments) are left.
const FORBIDDEN_BUILTINS: &[&str] = &[
    "__import__",
    "apply",
    "breakpoint",
    "compile",
    "delattr",
    "eval",
    "exec",
    "execfile",
    "exit",
    "file",
    "filter",
    "getattr",
    "globals",
    "help",
    "input",
    "locals",
    "map",
    "open",
    "quit",
    "raw_input",
    "reload",
    "setattr",
    "type",
    "vars",
];

/// Whether a name is refused outright. Nothing is ever executed either way: an unknown class is an
/// opaque object, while a name that only an attack needs says that the file is not what it seems.
pub(crate) fn is_forbidden(module: &str, name: &str) -> bool {
    if matches!(module, "builtins" | "__builtin__") {
        let first = name.split('.').next().unwrap_or(name);
        return name.contains("__") || FORBIDDEN_BUILTINS.contains(&first);
    }
    let top = module.split('.').next().unwrap_or(module);
    if FORBIDDEN_MODULES.contains(&top) {
        return true;
    }
    // These make code from data, or load whatever they are pointed at.
    if module == "types" && name != "SimpleNamespace" {
        return true;
    }
    if top == "torch" && matches!(name, "load" | "load_state_dict_from_url") {
        return true;
    }
    module
        .split('.')
        .chain(name.split('.'))
        .any(|part| FORBIDDEN_PARTS.contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_are_forbidden() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("nt", "system"),
            ("os.path", "join"),
            ("subprocess", "Popen"),
            ("builtins", "eval"),
            ("__builtin__", "getattr"),
            ("builtins", "__import__"),
            ("builtins", "eval.__call__"),
            ("builtins", "object.__subclasses__"),
            ("importlib", "import_module"),
            ("torch", "os.system"),
            ("torch.serialization", "os.system"),
            ("torch.serialization", "load"),
            ("torch.hub", "load"),
            ("numpy.os", "anything"),
            ("six.moves.builtins", "eval"),
            ("webbrowser", "open"),
            ("ctypes", "CDLL"),
            ("operator", "methodcaller"),
        ] {
            assert!(is_forbidden(module, name), "{module}.{name}");
        }
    }

    #[test]
    fn what_checkpoints_hold_is_not() {
        for (module, name) in [
            ("collections", "OrderedDict"),
            ("torch._utils", "_rebuild_tensor_v2"),
            ("torch", "FloatStorage"),
            ("torch", "float16"),
            ("torch.storage", "UntypedStorage"),
            ("builtins", "set"),
            ("__builtin__", "max"),
            ("_codecs", "encode"),
            ("numpy.core.multiarray", "scalar"),
            ("numpy", "dtype"),
            ("pathlib", "PosixPath"),
            ("argparse", "Namespace"),
            ("functools", "partial"),
            ("omegaconf.dictconfig", "DictConfig"),
            (
                "pytorch_lightning.callbacks.model_checkpoint",
                "ModelCheckpoint",
            ),
            ("pytorch_lightning.utilities.enums", "DistributedType"),
            ("__torch__.torch.nn.modules.linear", "Linear"),
        ] {
            assert!(!is_forbidden(module, name), "{module}.{name}");
        }
    }
}
