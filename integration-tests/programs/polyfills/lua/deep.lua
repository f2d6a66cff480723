#!/usr/bin/lua5.4
-- Stacks that end, and errors that say so.
local function first(ok, message) return ok, (tostring(message):match("^[^\n]*")) end
local depth = 0
local function recurse() depth = depth + 1 return 1 + recurse() end
print(first(pcall(recurse)))
print(depth > 100000)
print(first(pcall(function() local function r(...) return 1 + select("#", r(1, ...)) end return r() end)))
print(first(pcall(function() local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k + 1] end return t[1] end)))
print(first(pcall(function() local t = setmetatable({}, {}) getmetatable(t).__tostring = function() return tostring(t) end return tostring(t) end)))
print(first(pcall(function() local function r() return pcall(r) end return r() end)))
print(first(pcall(string.rep, "x", 1 << 40)))
print(first(pcall(string.find, string.rep("a", 300), string.rep("(", 40))))
print(first(pcall(string.match, string.rep("x", 1000), string.rep("x?", 1000))))
print(first(load("return " .. string.rep("(", 300) .. "1" .. string.rep(")", 300))))
print(first(load("local a = " .. string.rep("{", 250) .. string.rep("}", 250))))
print(first(load(string.rep("local x; ", 250))))
print(first(pcall(table.unpack, {}, 1, 1e7)))
print(first(pcall(table.concat, {1, {}, 3})))
print(first(xpcall(recurse, function(m) return "handled " .. m end)))
print(first(xpcall(recurse, function(m) local function r() return r() + 1 end return r() end)))
print(select("#", table.unpack({}, 1, 100000)))
print((select(2, pcall(function() local s = "" for i = 1, 30 do s = s .. i end error(s, 0) end))))
-- And it goes on as if nothing had been.
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
print(fib(22))
