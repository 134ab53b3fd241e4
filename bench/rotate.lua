-- Each request is another line of a file: method, path, token, address, and perhaps a body. With a mean number of
-- milliseconds as the second argument every connection pauses between requests, for exponentially spread times.
local prepared, at = {}, 0

local function split(line)
  local parts = {}
  for part in (line .. "\t"):gmatch("([^\t]*)\t") do parts[#parts + 1] = part end
  return parts
end

function init(args)
  for line in io.lines(args[1]) do
    local method, path, token, address, body = unpack(split(line))
    local headers = { ["Host"] = args[3], ["Accept"] = "application/json", ["User-Agent"] = "bench" }
    if token ~= "" then headers["Authorization"] = "Bearer " .. token end
    if address ~= "" then headers["X-Forwarded-For"] = address end
    if body and body ~= "" then headers["Content-Type"] = "application/json" else body = nil end
    prepared[#prepared + 1] = wrk.format(method, path, headers, body)
  end
  local mean = tonumber(args[2])
  if mean > 0 then
    delay = function() return math.floor(0.5 - mean * math.log(1 - math.random())) end
  end
end

function request()
  at = at % #prepared + 1
  return prepared[at]
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"us":%d,"refused":%d,"broken":%d,"p50_us":%d,"p99_us":%d}\n',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
