"""A WASI program under wasmtime, as `vkernel run` runs it: `oracle.py ROOT MODULE [ARGUMENT...]`, ROOT being its `/`.

The exit status is the program's; 134 after a trap, and 125 where wasmtime itself gives up (an enumeration's value that WASI does not have, a pointer outside the memory)."""

import os
import sys

import wasmtime

root, module, *arguments = sys.argv[1:]
features = wasmtime.Config()
features.wasm_exceptions = True
engine = wasmtime.Engine(features)
store = wasmtime.Store(engine)
config = wasmtime.WasiConfig()
config.argv = [os.path.basename(module), *arguments]
config.env = [["GREETING", "hello"]]
config.preopen_dir(root, "/")
config.inherit_stdin()
config.inherit_stdout()
config.inherit_stderr()
store.set_wasi(config)
linker = wasmtime.Linker(engine)
linker.define_wasi()
status = 0
try:
    linker.instantiate(store, wasmtime.Module.from_file(engine, module)).exports(store)["_start"](store)
except wasmtime.ExitTrap as end:
    status = end.code & 0xFF
except wasmtime.Trap as trap:
    status = 134
    sys.stderr.write(f"{trap}\n")
except wasmtime.WasmtimeError as error:
    # An access outside the memory is a trap with a cause; nobody caught the exception.
    status = 134 if "wasm trap" in str(error) or "thrown Wasm exception" in str(error) else 125
    sys.stderr.write(f"{error}\n")
sys.stderr.flush()
os._exit(status)
