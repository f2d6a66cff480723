#!/usr/bin/lua5.4
-- Coroutines, with errors inside and across them.
local co = coroutine.create(function(a, b)
    local c = coroutine.yield(a + b)
    local d, e = coroutine.yield(c * 2)
    error("after " .. d .. e)
end)
print(coroutine.resume(co, 1, 2))
print(coroutine.resume(co, 10))
print(coroutine.resume(co, "x", "y"))
print(coroutine.resume(co), coroutine.status(co))
print(debug.traceback(co))

-- pcall inside, yields inside pcall, errors after the yield.
local w = coroutine.wrap(function()
    print(pcall(function()
        local got = coroutine.yield("from inside pcall")
        error("got " .. got, 0)
    end))
    print(xpcall(function() coroutine.yield("from inside xpcall") error("then this") end, function(m) return "handled " .. m end))
    for k, v in pairs(setmetatable({}, {__pairs = function(t) coroutine.yield("from a metamethod") return next, {1}, nil end})) do print(k, v) end
    return "done"
end)
print(w()) print(w("a value")) print(w()) print(w()) print(pcall(w))

-- Errors through several.
local function nested(n)
    return coroutine.wrap(function()
        if n == 0 then error("at the bottom", 0) end
        coroutine.yield(n)
        nested(n - 1)()
        nested(n - 1)()
    end)
end
local n = nested(3)
print(n()) print(pcall(n)) print(pcall(n))
local function down(k) if k == 0 then error({bottom = true}) end return coroutine.wrap(down)(k - 1) end
print((pcall(down, 0)))
print(type(select(2, pcall(down, 20))))
print(select(2, pcall(down, 20)).bottom)
local function endless(k) return coroutine.wrap(endless)(k + 1) end
print(pcall(endless, 0))

-- Closing, and variables that are closed.
local closing = coroutine.create(function()
    local first <close> = setmetatable({}, {__close = function(_, e) print("first", e) end})
    local second <close> = setmetatable({}, {__close = function(_, e) print("second", e) error("in close", 0) end})
    coroutine.yield(1)
end)
print(coroutine.resume(closing))
print(coroutine.close(closing), coroutine.status(closing))
print(coroutine.close(coroutine.create(print)))
print(pcall(coroutine.close, coroutine.running()))
print(coroutine.isyieldable(), pcall(coroutine.yield, 1))
print(coroutine.resume(coroutine.create(function() return coroutine.running() ~= nil, select(2, coroutine.running()) end)))
local self
self = coroutine.create(function() return coroutine.resume(self) end)
print(coroutine.resume(self))
print(coroutine.resume(coroutine.create(function() table.sort({3, 2, 1}, function(a, b) coroutine.yield() end) end)))

-- A scheduler of producers, some of which fail.
local queue, log = {}, {}
for i = 1, 200 do
    queue[i] = coroutine.create(function()
        for step = 1, i % 7 do
            coroutine.yield(i * step)
            if i % 11 == 0 and step == 3 then error({task = i}) end
        end
    end)
end
local turns, failed, sum = 0, 0, 0
while #queue > 0 do
    local task = table.remove(queue, 1)
    local ok, value = coroutine.resume(task)
    turns = turns + 1
    if not ok then failed = failed + value.task
    elseif coroutine.status(task) ~= "dead" then sum = sum + value queue[#queue + 1] = task end
end
print(turns, failed, sum)
