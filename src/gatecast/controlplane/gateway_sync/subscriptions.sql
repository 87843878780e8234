-- name: plans
SELECT gateway_id, kind, id, api_id, body, version, created_at, updated_at
FROM gatecast_subscription_records WHERE gateway_id = $1 AND kind = 'subscriptionPlan' ORDER BY id

-- name: subscriptions_of_api
SELECT gateway_id, kind, id, api_id, body, version, created_at, updated_at
FROM gatecast_subscription_records WHERE gateway_id = $1 AND kind = 'subscription' AND api_id = $2 ORDER BY id

-- name: record
SELECT body FROM gatecast_subscription_records WHERE gateway_id = $1 AND kind = $2 AND id = $3

-- name: store_record
INSERT INTO gatecast_subscription_records (gateway_id, kind, id, api_id, body, version, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, 1, now(), now())
ON CONFLICT (gateway_id, kind, id) DO UPDATE SET api_id = excluded.api_id, body = excluded.body,
    version = gatecast_subscription_records.version + 1, updated_at = now()

-- name: delete_record
DELETE FROM gatecast_subscription_records WHERE gateway_id = $1 AND kind = $2 AND id = $3
