#!/usr/bin/lua5.4
-- Errors of every kind, and who catches them.
print(pcall(error, "with a place", 1))
print(pcall(error, "without one", 0))
print(pcall(error, {code = 7}) , select(2, pcall(error, {code = 7})).code)
print(pcall(error), pcall(error, nil))
print(select("#", pcall(function() return 1, nil, nil end)))
print(pcall(function() local t = nil; return t.field end))
print(pcall(function() return 1 + {} end))
print(pcall(function() return #5 end))
print(pcall(function() return {} < {} end))
print(pcall(function() return 1 // 0 end))
print(pcall(function() return "a" .. {} end))
print(pcall(function() undefined_function() end))
print(pcall(string.rep))
print(pcall(string.rep, "x", -1))
print(pcall(setmetatable, 1, {}))
print(pcall(string.format, "%d", 1.5))
print(pcall(assert, false))
print(pcall(assert, nil, "the reason"))
print(pcall(assert, false, {}) , pcall(assert, 1, 2, 3))

-- Nested, rethrown, from metamethods, iterators and sort's comparison.
local function level(n)
    if n == 0 then error({depth = 0}) end
    local ok, e = pcall(level, n - 1)
    e.depth = e.depth + 1
    error(e)
end
print(select(2, pcall(level, 50)).depth)
local strange = setmetatable({}, {
    __index = function(_, k) error("no " .. k, 0) end,
    __add = function() error("no sum", 2) end,
    __tostring = function() return "strange" end,
    __call = function(_, n) if n > 3 then error("too much") end return n end,
    __close = function(_, e) print("closed with", e) end,
})
print(pcall(function() return strange.key end))
print(pcall(function() return strange + 1 end))
print(pcall(strange, 3), pcall(strange, 4))
print(pcall(error, strange))
print(pcall(function() for k in function() error("in an iterator") end do end end))
print(pcall(table.sort, {3, 1, 2}, function(a, b) error("compared " .. 1) end))
print(pcall(table.sort, {3, 1, 2, 5, 4, 7, 6}, function() return true end))
print(pcall(string.gsub, "abc", "%w", function(c) if c == "b" then error("at " .. c) end end))
print(pcall(function() local guard <close> = strange; error("through a guard") end))
print(pcall(function() local guard <close> = strange; return "fine" end))

-- xpcall: the handler sees the stack.
print(xpcall(function() error("seen") end, function(m) return "handled: " .. m end))
print(xpcall(function(...) return select("#", ...), ... end, print, 1, nil, 3))
print(xpcall(function() local x = nil; x() end, debug.traceback))
print(xpcall(error, function(m) error("again") end, "first"))
local function a() error("deep down") end
local function b() a() end
print((select(2, xpcall(b, function(m) return debug.traceback("trace of " .. m, 1) end))))
print(debug.traceback("here"))

-- Programs that are none.
print(load("x ="))
print(load("return 1 +* 2", "=chunk"))
print(load("goto nowhere"))
print(load(function() error("while reading") end))
print(pcall(load, 5))
print(load("return ...", "=ok", "t", {})(8))
print(pcall(load("error('from inside')", "=inner")))
print(load(string.dump(function() return "dumped" end), "b", "b")())
print(pcall(load("local a <const> = 1; a = 2") or error))
for i = 1, 10000 do local ok = pcall(error, i) assert(not ok) end
print(collectgarbage("count") > 0, pcall(collectgarbage, "nothing"))
