#!/usr/bin/lua5.4
-- What programs use of the library: text, numbers, files, modules, input.
local shapes = require("shapes")
print(shapes.area({r = 2}), select(2, pcall(shapes.area, {})))
print(select(2, require("shapes")))
print((select(2, pcall(require, "no.such.module")):gsub("\n.*", "")))
print(package.loaded.shapes == shapes, package.searchpath("shapes", package.path))
print(string.format("%5d|%-5s|%05.1f|%x|%q|%s|%g|%a|%c|%i", 42, "ab", 3.14159, 255, "a\n\"b\"\0", {1} ~= nil, 1e100, 1.5, 65, -7))
print(string.format("%q %q %q", 1 / 3, math.mininteger, 0 / 0), 2^53, 10 // 3, -10 // 3, -10 % 3, 5.5 // 2, 1e15, 1e16, -0.0, 1 / 0, 3 | 4)
print(math.maxinteger + 1 == math.mininteger, math.type(1), math.type(1.0), math.tointeger("8"), 7 // 0.0, "10" + 5, "0x10" + 0, math.ult(1, -1))
print(("key = value"):match("^(%w+)%s*=%s*(%w+)$"), ("hello world"):gsub("o", {o = "0"}), ("abc"):byte(1, -1), ("x"):rep(3, "-"))
print(utf8.char(72, 228, 8364, 128512), utf8.len("äöü"), utf8.codepoint("€", 1), pcall(utf8.codepoint, "\xff"))
print(string.pack("<i4 z s1", 7, "zero", "one"):byte(1, -1))
print(string.unpack("<i4", string.pack("<i4", -2)), #string.pack("d", 1.5))
print(table.concat({1, 2, 3}, "+"), table.unpack({1, 2, 3}, 2), #table.pack(nil, nil), next({}), select(-1, 1, 2, 3))
local sorted = {}
for i = 1, 100 do sorted[i] = (i * 37) % 101 end
table.sort(sorted, function(a, b) return a > b end)
print(table.concat(sorted, " ", 1, 12))
print(os.date("!%Y-%m-%d %H:%M:%S", 86400 * 365), os.time({year = 2001, month = 2, day = 3, hour = 4}) ~= nil, os.getenv("CURRENCY"), os.getenv("NOTHING"), os.clock() >= 0)
print(pcall(os.date, "%Ez", 0))

-- Files.
local name = "/data/text"
local out <close> = assert(io.open(name, "w"))
print(io.type(out), out:write("one\n", 2, "\n", 3.5, "\nlast"), out:seek("cur"), out:close(), io.type(out))
for line in io.lines(name) do io.write("[", line, "]") end print()
local f = assert(io.open(name, "r+"))
print(f:read("l", "n", "l", "n", "a")) print(f:read("a"), f:read("l"), f:read(0))
print(f:seek("set", 4), f:read(1), f:seek("end"), f:write("\nmore") == f, f:seek("set"), #f:read("a"))
f:close()
print(pcall(f.read, f))
-- Numbers of errors are WASI's own; their texts are not.
local function text(...) return (select(2, ...)) end
print(text(io.open("/data/none/x", "w")))
print(text(io.open("/no such file")))
print(pcall(io.lines, "/no such file"))
print(pcall(io.open, name, "rz"))
print(os.rename(name, "/data/other"), text(io.open(name)), os.remove("/data/other"), text(os.remove("/data/other")))
do local g = assert(io.open("relative", "w")) g:write("here") g:close() print(io.open("/data/relative"):read("a"), os.remove("relative")) end
io.stdout:setvbuf("full") io.write("buffered ") io.stdout:flush() print(io.write("") == io.stdout)

-- Input and arguments.
print(#arg, arg[0], arg[1], arg[2], ...)
print(io.read("n", "n"), io.read("l"), io.read(3), io.read("L"))
for a, b in io.lines(nil, 1, "l") do print(a, b) end
print(io.read("a") == "", io.read("l"))
io.stderr:write("to standard error\n")
os.exit(tonumber(arg[1]), true)
