-- A module in the image's /usr.
local name, file = ...
local shapes = {name = name, file = file}
function shapes.area(shape)
    if not shape.r then error("a shape of module " .. name .. " needs an r", 2) end
    return string.format("%.3f", math.pi * shape.r ^ 2)
end
return shapes
