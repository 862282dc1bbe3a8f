-- The whole job of a reservation, as one atomic script: read the product's terms, check the window, once per user,
-- compare, deduct, remember the buyer, tell the order systems.
-- KEYS: product, its buyers, its events. ARGV: user, quantity, now (milliseconds).
local terms = redis.call('HMGET', KEYS[1], 'free', 'opens', 'closes')
if not terms[1] then return -4 end
local now, closes = tonumber(ARGV[3]), tonumber(terms[3])
if now < tonumber(terms[2]) or (closes > 0 and now >= closes) then return -3 end
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return -2 end
local quantity = tonumber(ARGV[2])
if tonumber(terms[1]) < quantity then return -1 end
redis.call('HINCRBY', KEYS[1], 'free', -quantity)
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('XADD', KEYS[3], '*', 'user', ARGV[1], 'quantity', ARGV[2])
return 1
