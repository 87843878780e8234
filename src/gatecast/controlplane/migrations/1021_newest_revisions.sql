-- A change that brought an artifact to a further gateway could mark revisions as replaced that it had just made. They
-- wait for an answer again: their gateways are told once more when they connect next.
UPDATE gatecast_deployments SET state = 'PENDING'
WHERE state = 'SUPERSEDED' AND id IN (SELECT deployment_id FROM gatecast_placements WHERE desired = 'DEPLOYED');
