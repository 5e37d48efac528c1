/* Names that no file of weights has a use for. To this reader they would be inert like all that it does not know; but a
 * pickle that asks for one was made to run something where it is loaded by Python, and its user should hear of that. */
#include <string.h>

#include "model/pickle_inside.h"

/* With everything in them, submodules too. */
static const char *const MODULES[] = {
    "os",         "posix",       "nt",      "subprocess",   "commands",     "sys",     "shutil",   "socket",
    "importlib",  "imp",         "runpy",   "pty",          "ctypes",       "_ctypes", "code",     "codeop",
    "webbrowser", "pdb",         "bdb",     "timeit",       "pickle",       "cPickle", "_pickle",  "marshal",
    "dill",       "cloudpickle", "joblib",  "asyncio",      "signal",       "urllib",  "http",     "requests",
    "httplib",    "urllib2",     "ftplib",  "smtplib",      "telnetlib",    "pip",     "pkgutil",  "profile",
    "cProfile",   "doctest",     "trace",   "platform",     "fcntl",        "mmap",    "tempfile", "fileinput",
    "linecache",  "zipimport",   "ssl",     "venv",         "ensurepip",    "idlelib", "lib2to3",  "pydoc",
    "aiohttp",    "distutils",   "sqlite3", "_osx_support", "_aix_support", "_pyrepl",
};

static const struct {
    const char *module, *names[20];
} NAMES[] = {
    {"builtins",
     {"eval", "exec", "execfile", "compile", "open", "__import__", "input", "raw_input", "breakpoint", "globals",
      "locals", "setattr", "delattr", "vars", "apply", "exit", "quit", "help"}},
    {"io", {"open", "FileIO", "open_code"}},
    {"_io", {"open", "FileIO", "open_code"}},
    {"types", {"FunctionType", "CodeType", "LambdaType", "MethodType"}},
    {"torch", {"load", "hub"}},
    {"torch.serialization", {"load"}},
    {"torch.hub", {"load", "load_state_dict_from_url", "download_url_to_file"}},
    {"numpy", {"load"}},
    {"numpy.testing._private.utils", {"runstring"}},
    {"operator", {"methodcaller"}},
    {"logging.config", {"_resolve"}},
    {"multiprocessing.util", {"spawnv_passfds"}},
    {"numpy.f2py.crackfortran", {"myeval"}},
    {"pandas", {"read_pickle"}},
    {"torch._inductor.codecache", {"compile_file"}},
    {"torch.jit.unsupported_tensor_ops", {"execWrapper"}},
    {"torch.utils.collect_env", {"run"}},
    {"uuid", {"_get_command_stdout"}},
};

/* The first `size` bytes of `text` are `word`, or that and a submodule of it. */
static bool is_module(const char *text, size_t size, const char *word)
{
    size_t length = strlen(word);
    return size >= length && memcmp(text, word, length) == 0 && (size == length || text[length] == '.');
}

static bool is_word(const char *text, size_t size, const char *word)
{
    return strlen(word) == size && memcmp(text, word, size) == 0;
}

/* A module of that kind among the parts of a dotted name: torch's "serialization.os.system" is os.system to Python, and
 * "torch", "os" the module itself. So are ways from a class to all that there is. */
static bool leads_out(const char *name, size_t size)
{
    static const char *const exits[] = {
        "os",         "posix",          "nt",       "subprocess",       "sys",         "shutil",
        "importlib",  "builtins",       "ctypes",   "__builtins__",     "__globals__", "__import__",
        "__loader__", "__subclasses__", "__code__", "__getattribute__",
    };
    for (size_t at = 0; at <= size;) {
        const char *dot = at < size ? memchr(name + at, '.', size - at) : NULL;
        size_t length = dot ? (size_t)(dot - name) - at : size - at;
        for (size_t i = 0; i < sizeof exits / sizeof exits[0]; i++)
            if (is_word(name + at, length, exits[i])) return true;
        at += length + 1;
    }
    return false;
}

bool pickle_is_dangerous(const char *module, size_t module_size, const char *name, size_t name_size)
{
    for (size_t i = 0; i < sizeof MODULES / sizeof MODULES[0]; i++)
        if (is_module(module, module_size, MODULES[i])) return true;
    if (leads_out(name, name_size)) return true;
    if (is_word(module, module_size, "__builtin__")) { /* its name in Python 2, and in protocol 2 */
        module = "builtins";
        module_size = strlen(module);
    }
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        if (!is_word(module, module_size, NAMES[i].module)) continue;
        for (size_t n = 0; n < sizeof NAMES[i].names / sizeof NAMES[i].names[0] && NAMES[i].names[n]; n++)
            if (is_word(name, name_size, NAMES[i].names[n]) || is_module(name, name_size, NAMES[i].names[n]))
                return true;
    }
    return false;
}
