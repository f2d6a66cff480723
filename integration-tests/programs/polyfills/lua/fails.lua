#!/usr/bin/lua5.4
local function inner() error(arg[1] == "object" and setmetatable({}, {__tostring = function() return "an object" end}) or arg[1] == "table" and {} or "nobody catches this") end
print("before")
inner()
