BEGIN TRANSACTION;
CREATE TABLE connections (
    -- Grows in the order in which the connections of one position were opened.
    number        integer PRIMARY KEY,
    connection_id text NOT NULL UNIQUE,
    gateway_id    text NOT NULL,
    replica       text NOT NULL,
    pod_id        text NOT NULL,
    protocol      text NOT NULL,
    remote        text NOT NULL,
    token_id      text,
    connected_at  text NOT NULL,
    sent          integer NOT NULL,
    confirmed     integer NOT NULL,
    dismissal     text,
    -- True once its pod's lease has run out and the position that it held back has been moved.
    released      integer NOT NULL DEFAULT false
);
INSERT INTO "connections" VALUES(1,'dc0b8982-a5d2-40bf-bfc8-a1c4efa76cf4','a8c18c8c-f51b-4f26-85f1-fd1b9ac8fa3f','','pod-1','gateway.v1','127.0.0.1','591c503f-fbba-4b50-ad77-94d93b5d477d','2026-11-25 18:01:32.925351+00:00',2,2,NULL,0);
CREATE TABLE cursors (
    gateway_id    text NOT NULL REFERENCES gateway_streams ON DELETE CASCADE,
    replica       text NOT NULL,
    epoch         text NOT NULL,
    sent          integer NOT NULL,
    confirmed     integer NOT NULL,
    resync_reason text,
    updated_at    text NOT NULL,
    PRIMARY KEY (gateway_id, replica)
) WITHOUT ROWID;
INSERT INTO "cursors" VALUES('a8c18c8c-f51b-4f26-85f1-fd1b9ac8fa3f','','2a13b066-b820-40ba-9ff0-22c9bf9e96db',2,2,NULL,'2026-11-25 18:01:33.375750+00:00');
CREATE TABLE epoch (
    only_row    integer PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    current     text NOT NULL,
    begun_at    text NOT NULL,
    last_change integer NOT NULL DEFAULT 0
);
INSERT INTO "epoch" VALUES(1,'2a13b066-b820-40ba-9ff0-22c9bf9e96db','2026-11-25 18:01:32.750832+00:00',7);
CREATE TABLE events (
    log_id        integer NOT NULL,
    "offset"      integer NOT NULL,
    event_id      text NOT NULL,
    type          text NOT NULL,
    action        text NOT NULL,
    entity_type   text NOT NULL,
    entity_id     text NOT NULL,
    size          integer NOT NULL,
    originated_at text NOT NULL,
    recorded_at   text NOT NULL,
    trace_parent  text,
    payload       text NOT NULL,
    PRIMARY KEY (log_id, "offset")
);
INSERT INTO "events" VALUES(2,1,'00000000-0000-0000-0000-000000000001','api.updated','UPDATE','Api','api-1',12,'2026-11-25 18:01:32.974929+00:00','2026-11-25 18:01:32.982720+00:00',NULL,'{"number":0}');
INSERT INTO "events" VALUES(2,2,'00000000-0000-0000-0000-000000000002','api.updated','UPDATE','Api','api-1',12,'2026-11-25 18:01:32.991068+00:00','2026-11-25 18:01:32.991453+00:00',NULL,'{"number":1}');
INSERT INTO "events" VALUES(2,3,'00000000-0000-0000-0000-000000000003','api.updated','UPDATE','Api','api-1',12,'2026-11-25 18:01:32.996654+00:00','2026-11-25 18:01:32.996935+00:00',NULL,'{"number":2}');
INSERT INTO "events" VALUES(1,1,'036c057e-55db-4991-8811-a2e855fe4e5a','llmprovider.deployed','CREATE','llmprovider','471802d0-b999-4d16-a40c-6a3c5bec3ed1',246,'2026-11-25 18:01:33.048921+00:00','2026-11-25 18:01:33.051408+00:00',NULL,'{"providerId":"471802d0-b999-4d16-a40c-6a3c5bec3ed1","deploymentId":"427331b8-edbe-40af-8907-00dfcb88c84f","performedAt":"2026-11-25T18:01:33.048Z","gatewayId":"a8c18c8c-f51b-4f26-85f1-fd1b9ac8fa3f","organizationId":"default","status":"DEPLOYED"}');
INSERT INTO "events" VALUES(2,4,'cc140bd4-0a4d-41ed-8857-53f3faf6d48d','llmprovider.deployed','CREATE','llmprovider','471802d0-b999-4d16-a40c-6a3c5bec3ed1',246,'2026-11-25 18:01:33.049910+00:00','2026-11-25 18:01:33.051408+00:00',NULL,'{"providerId":"471802d0-b999-4d16-a40c-6a3c5bec3ed1","deploymentId":"171a13b2-4046-4528-8be0-a86a0f401cee","performedAt":"2026-11-25T18:01:33.049Z","gatewayId":"c7ffea61-6183-42b9-8117-6cfc8181b847","organizationId":"default","status":"DEPLOYED"}');
INSERT INTO "events" VALUES(1,2,'963792d9-57c0-46f8-aa55-9d5d80608b8d','apikey.created','PROVISION','apikey','8ef7c48e-4ce4-4a10-a7df-b3cb9ad1d8c8',316,'2026-11-25 18:01:33.160344+00:00','2026-11-25 18:01:33.161500+00:00',NULL,'{"uuid":"8ef7c48e-4ce4-4a10-a7df-b3cb9ad1d8c8","apiId":"471802d0-b999-4d16-a40c-6a3c5bec3ed1","name":"first-key","apiKeyHashes":"{\"sha256\":\"f913f3d67a751f837a76dc878eae29f3b3066db802af04c531a1f1bed459013e\"}","maskedApiKey":"***bb0ab","updatedAt":"2026-11-25T18:01:33.157Z","createdAt":"2026-11-25T18:01:33.157Z"}');
INSERT INTO "events" VALUES(2,5,'50b6b976-f24d-43b2-8ce2-a631d19bdcb3','apikey.created','PROVISION','apikey','8ef7c48e-4ce4-4a10-a7df-b3cb9ad1d8c8',316,'2026-11-25 18:01:33.160421+00:00','2026-11-25 18:01:33.161500+00:00',NULL,'{"uuid":"8ef7c48e-4ce4-4a10-a7df-b3cb9ad1d8c8","apiId":"471802d0-b999-4d16-a40c-6a3c5bec3ed1","name":"first-key","apiKeyHashes":"{\"sha256\":\"f913f3d67a751f837a76dc878eae29f3b3066db802af04c531a1f1bed459013e\"}","maskedApiKey":"***bb0ab","updatedAt":"2026-11-25T18:01:33.157Z","createdAt":"2026-11-25T18:01:33.157Z"}');
CREATE TABLE forgotten_logs (
    log_id integer PRIMARY KEY
);
CREATE TABLE gatecast_admin_tokens (
    id           text PRIMARY KEY,
    organization text NOT NULL,
    digest       text NOT NULL UNIQUE,
    created_at   timestamptz NOT NULL
);
CREATE TABLE gatecast_api_keys (
    id          text PRIMARY KEY,
    artifact_id text NOT NULL REFERENCES gatecast_artifacts (id) ON DELETE CASCADE,
    name        text NOT NULL,
    mask        text NOT NULL,
    sha256      text NOT NULL UNIQUE,
    expires_at  bigint,
    created_at  bigint NOT NULL,
    updated_at  bigint NOT NULL,
    revoked_at  bigint
);
INSERT INTO "gatecast_api_keys" VALUES('8ef7c48e-4ce4-4a10-a7df-b3cb9ad1d8c8','471802d0-b999-4d16-a40c-6a3c5bec3ed1','first-key','***bb0ab','f913f3d67a751f837a76dc878eae29f3b3066db802af04c531a1f1bed459013e',NULL,1795629693157,1795629693157,NULL);
CREATE TABLE gatecast_artifacts (
    id               text PRIMARY KEY,
    organization     text NOT NULL,
    kind             text NOT NULL,
    handle           text NOT NULL,
    name             text NOT NULL,
    artifact_version text NOT NULL,
    -- What operators wrote last.
    content_id       text NOT NULL,
    version          bigint NOT NULL,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    UNIQUE (organization, kind, handle),
    UNIQUE (organization, kind, name, artifact_version)
);
INSERT INTO "gatecast_artifacts" VALUES('471802d0-b999-4d16-a40c-6a3c5bec3ed1','default','LlmProvider','openai','OpenAI','v1.0','96ef1f22-945b-440a-90e2-ee52f55d219e',1,'2026-11-25 18:01:33.044128+00:00','2026-11-25 18:01:33.044157+00:00');
CREATE TABLE gatecast_content_needs (
    content_id  text NOT NULL REFERENCES gatecast_contents (id) ON DELETE CASCADE,
    provider_id text NOT NULL,
    PRIMARY KEY (content_id, provider_id)
);
CREATE TABLE gatecast_content_secrets (
    content_id text NOT NULL REFERENCES gatecast_contents (id) ON DELETE CASCADE,
    handle     text NOT NULL,
    PRIMARY KEY (content_id, handle)
);
INSERT INTO "gatecast_content_secrets" VALUES('96ef1f22-945b-440a-90e2-ee52f55d219e','gatecast-ec0f9690-b383-4a4d-a4a0-f4ec50f0f474');
CREATE TABLE gatecast_contents (
    id               text PRIMARY KEY,
    artifact_id      text NOT NULL REFERENCES gatecast_artifacts (id) ON DELETE CASCADE,
    name             text NOT NULL,
    artifact_version text NOT NULL,
    document         bytea NOT NULL,
    -- JSON: the handle of the secret at each place of the document that needs one.
    credentials      text NOT NULL,
    content          bytea NOT NULL
);
INSERT INTO "gatecast_contents" VALUES('96ef1f22-945b-440a-90e2-ee52f55d219e','471802d0-b999-4d16-a40c-6a3c5bec3ed1','OpenAI','v1.0',X'D625FA011FC25DBE138AD490F5AD46AB2E74FD0F2BB2BB41E8C7A6290329262A83AD1E965950F6F19E32959A327F02D7BADD16A005A9A2375C1D3F7251A9409C4F70C0962B043D34AC19B5DB4B6B5B827348331F2DA35486E42E1909C88071EDAEA8FD440C143317057B73E1847EFF208DA050589E2C93CE4A08A08FADE532F2E9554D6C458D93C37A3A05812A3D9D7A6CED932411F7849A76FA366778817E26C3FB9948068D7128B280DF909EF07CB37606E7FC10246642F3062CB043636D57EE6F3A91F5C8AA6B0C0EF6B9F39C409E79E7A18AA62E15BA4A33','{"upstream.auth": "gatecast-ec0f9690-b383-4a4d-a4a0-f4ec50f0f474"}',X'D625FA014538506E88C4107357A4EB4B1333AEB3EC293166F10D93B0AF02B6337F49659E602F82E301F6D371E9BA50E34DFF67E4F2B12738C98EECC846B15306C0356405DCD103E089CE6CF85800F35B5134386BAE0CAD590FEE2E683F22214C841568AE4E2993BB69E15BAE8D51F10B6EC633A9E1D95A6C710F395CC45E4905910B317C435144A8BC77C30350C033A5A80ED149B403257F98F8B23DA41198A36032FF7B357DE1FA48F16DD9DCBD432071BB58EB4FB9D322762595D70AD87D0B2F52015DC027395E56918BACAF913C71E83ACA715B5DDD7DAAAE17A775F4A0D953C6CF577C44846020FB9B335A2500F07397FDD211B7EEA17780E49C3986B8FDA9CA2F1F4E8061C23A3C48C90327F98427B5D93D2BB39CE065D0F0E03A1B3EECA6276C8C440962EE5A2313488D465FF64BDCE7F5E200A55DD4662969298A9B0F616B49EA3FA6368C0DFFD1C37BF76E32032D45C2D8A115ECEF06C2B2C7E6762089A2B79CFA33449F2518AB318756D077BDC585331F7D90BF4A7945017FA0AAF67E813E0790D949EE1A9678A7619CDB24C30056EE2AEDDA56A3EB91C35A7DF646D2CA5322D9A2E3EC76E8B02C0672ABD9FB1D4DCE850242D7212B25A7');
CREATE TABLE gatecast_deployments (
    id           text PRIMARY KEY,
    artifact_id  text NOT NULL REFERENCES gatecast_artifacts (id) ON DELETE CASCADE,
    gateway_id   text NOT NULL REFERENCES gatecast_gateways (id) ON DELETE CASCADE,
    revision     bigint NOT NULL,
    content_id   text NOT NULL REFERENCES gatecast_contents (id),
    state        text NOT NULL,
    reason       text NOT NULL,
    performed_at bigint NOT NULL,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    UNIQUE (artifact_id, gateway_id, revision)
);
INSERT INTO "gatecast_deployments" VALUES('427331b8-edbe-40af-8907-00dfcb88c84f','471802d0-b999-4d16-a40c-6a3c5bec3ed1','a8c18c8c-f51b-4f26-85f1-fd1b9ac8fa3f',1,'96ef1f22-945b-440a-90e2-ee52f55d219e','DEPLOYED','',1795629693048,'2026-11-25 18:01:33.048751+00:00','2026-11-25 18:01:33.175046+00:00');
INSERT INTO "gatecast_deployments" VALUES('171a13b2-4046-4528-8be0-a86a0f401cee','471802d0-b999-4d16-a40c-6a3c5bec3ed1','c7ffea61-6183-42b9-8117-6cfc8181b847',1,'96ef1f22-945b-440a-90e2-ee52f55d219e','PENDING','',1795629693049,'2026-11-25 18:01:33.049786+00:00','2026-11-25 18:01:33.049798+00:00');
CREATE TABLE gatecast_gateway_tokens (
    id           text PRIMARY KEY,
    gateway_id   text NOT NULL REFERENCES gatecast_gateways (id) ON DELETE CASCADE,
    prefix       text NOT NULL,
    digest       text NOT NULL UNIQUE,
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at   timestamptz
);
INSERT INTO "gatecast_gateway_tokens" VALUES('591c503f-fbba-4b50-ad77-94d93b5d477d','a8c18c8c-f51b-4f26-85f1-fd1b9ac8fa3f','gcg_ZPOXDN','b5ad8ba2126477abde0a33e8ed72cbe40b1d8931a8ae02a9f0cfafa412d8fe5c','2026-11-25 18:01:32.899677+00:00','2026-11-25 18:01:32.926816+00:00',NULL);
INSERT INTO "gatecast_gateway_tokens" VALUES('a857d0b6-2b01-4f14-927d-d9e7b3c8fd69','c7ffea61-6183-42b9-8117-6cfc8181b847','gcg_UKRY1L','3c7f7f7dbf69a97570aff6b9b70282f8612a303bdb0aecc664f458dd2eb45150','2026-11-25 18:01:32.912490+00:00',NULL,NULL);
CREATE TABLE gatecast_gateways (
    id                text PRIMARY KEY,
    organization      text NOT NULL,
    name              text NOT NULL,
    display_name      text NOT NULL,
    description       text NOT NULL,
    vhost             text NOT NULL,
    type              text NOT NULL,
    connection_policy text NOT NULL,
    properties        text NOT NULL,
    manifest          text,
    -- How many events of its log the control plane can publish again; a longer log holds those of others as well.
    own_events        bigint NOT NULL DEFAULT 0,
    -- Why events of others were lost (retention, epoch, ahead); empty: they were not, or somebody has made it good.
    unrestored        text NOT NULL DEFAULT '',
    version           bigint NOT NULL,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    UNIQUE (organization, name)
);
INSERT INTO "gatecast_gateways" VALUES('a8c18c8c-f51b-4f26-85f1-fd1b9ac8fa3f','default','gateway-1','','','','regular','all','{}','{"version":"1.2.0","functionalityType":"regular","policies":[{"name":"api-key-auth","version":"v1.0.0","managedBy":"wso2","parameters":{"type":"object","additionalProperties":false,"properties":{"key":{"type":"string"},"in":{"enum":["header","query"]}},"required":["key","in"]}},{"name":"basic-ratelimit","version":"v1.0.0","managedBy":"wso2","parameters":{"type":"object","additionalProperties":false,"properties":{"limits":{"type":"array","minItems":1,"maxItems":10,"items":{"type":"object","additionalProperties":false,"required":["requests","duration"],"properties":{"requests":{"type":"integer","minimum":1,"maximum":1000000000},"duration":{"type":"string","pattern":"^[0-9]+(ns|us|µs|ms|s|m|h)$"}}}}},"required":["limits"]}},{"name":"host-rewrite","version":"v1.0.0","managedBy":"wso2","parameters":{"type":"object","additionalProperties":false,"properties":{"host":{"type":"string","minLength":1,"maxLength":255,"pattern":"^[a-zA-Z0-9.:-]+$"}},"required":["host"]}},{"name":"respond","version":"v1.0.0","managedBy":"wso2","parameters":{"type":"object","additionalProperties":false,"properties":{"statusCode":{"type":"integer","minimum":100,"maximum":599},"headers":{"type":"array","items":{"type":"object","required":["name","value"],"properties":{"name":{"type":"string","minLength":1,"maxLength":256,"pattern":"^[a-zA-Z0-9-_]+$"},"value":{"type":"string","maxLength":8192}},"additionalProperties":false}},"body":{"type":"string","maxLength":1048576}}}},{"name":"set-headers","version":"v1.0.0","managedBy":"wso2","parameters":{"type":"object","properties":{"requestHeaders":{"type":"array","items":{"type":"object","required":["name","value"],"properties":{"name":{"type":"string","minLength":1,"maxLength":256,"pattern":"^[a-zA-Z0-9-_]+$"},"value":{"type":"string","maxLength":8192}}}},"responseHeaders":{"type":"array","items":{"type":"object","required":["name","value"],"properties":{"name":{"type":"string","minLength":1,"maxLength":256,"pattern":"^[a-zA-Z0-9-_]+$"},"value":{"type":"string","maxLength":8192}}}}},"anyOf":[{"required":["requestHeaders"]},{"required":["responseHeaders"]}]}},{"name":"token-based-ratelimit","version":"v1.0.0","managedBy":"wso2","parameters":{"type":"object","additionalProperties":false,"properties":{"promptTokenLimits":{"type":"array","items":{"type":"object","required":["count","duration"],"properties":{"count":{"type":"integer","minimum":1},"duration":{"type":"string","pattern":"^[-+]?(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|ms|s|m|h))+$"}}}},"completionTokenLimits":{"type":"array","items":{"type":"object","required":["count","duration"],"properties":{"count":{"type":"integer","minimum":1},"duration":{"type":"string","pattern":"^[-+]?(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|ms|s|m|h))+$"}}}},"totalTokenLimits":{"type":"array","items":{"type":"object","required":["count","duration"],"properties":{"count":{"type":"integer","minimum":1},"duration":{"type":"string","pattern":"^[-+]?(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|ms|s|m|h))+$"}}}}}}}]}',2,'',1,'2026-11-25 18:01:32.889826+00:00','2026-11-25 18:01:32.889852+00:00');
INSERT INTO "gatecast_gateways" VALUES('c7ffea61-6183-42b9-8117-6cfc8181b847','default','gateway-2','','','','regular','all','{}',NULL,2,'',1,'2026-11-25 18:01:32.905244+00:00','2026-11-25 18:01:32.905268+00:00');
CREATE TABLE gatecast_imported_artifacts (
    gateway_id       text NOT NULL REFERENCES gatecast_gateways (id) ON DELETE CASCADE,
    -- The gateway's own id of it.
    local_id         text NOT NULL,
    id               text NOT NULL UNIQUE,
    kind             text NOT NULL,
    handle           text NOT NULL,
    name             text NOT NULL,
    artifact_version text NOT NULL,
    status           text NOT NULL,
    configuration    bytea NOT NULL,
    deployed_at      text NOT NULL,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    PRIMARY KEY (gateway_id, local_id)
);
INSERT INTO "gatecast_imported_artifacts" VALUES('a8c18c8c-f51b-4f26-85f1-fd1b9ac8fa3f','0aa3dc83-f470-5246-8e31-e79ee95fe565','fec600d5-f59f-4afa-9fc1-e6a36eb58af9','LlmProviderTemplate','openai','openai','','deployed',X'D625FA01EEEE0EE9636F81EA5C33BAFC257A4A02CCDB88F3597EF114CE247C2C0EA7D3846B859F2A31BD477F407CD42C6D3DCF156DDEF49280CBE475494AD1B9A6F9A07C9F55C98545EB814AF2A4DB2165B17C75687AB01D16D5CF209D5137A11C02786082AB40516D2CECDE1049CBA2946EEDF66A34FA7DB0363FC3D782FF362608C7088EE4C37BD661CFCE9DE7F183EFF7182A6C153A0A8FC4A7EC5D5EEBCE5895687261FA25969183FBF6FB0E2B14D5213CEE','2026-01-01T00:00:00.000Z','2026-11-25 18:01:32.977318+00:00','2026-11-25 18:01:32.977337+00:00');
INSERT INTO "gatecast_imported_artifacts" VALUES('a8c18c8c-f51b-4f26-85f1-fd1b9ac8fa3f','28073903-fc0b-5f16-916e-101b24b73a8e','df3806b0-289d-4d0b-bef4-91a66964ae9c','LlmProviderTemplate','anthropic','anthropic','','deployed',X'D625FA01708D554BCEB5CC36A9A170F97A9744F375C431E951E85817628A2654A2E1E92BE33BA27FA4A69A95EA9EAE9445596AE39B2BE1B4740AF1CD60E70C9DB32C8EA731038DF9C39F8D97AB759FEE32ABF05BAE4AD6985B0AE5E37A2C23BB06FC796EC389DDA1A21624DDC542CD27D7451C8032FEE44AC3722C5A23840074AB0E34D5632938271762BA2B06F532299C8171A0D3302DF359F609D849B988871930F579DAAA3AAE322A0DBA298F27A27D35AB6E9F4B70E2BE90','2026-01-01T00:00:00.000Z','2026-11-25 18:01:32.977614+00:00','2026-11-25 18:01:32.977625+00:00');
INSERT INTO "gatecast_imported_artifacts" VALUES('a8c18c8c-f51b-4f26-85f1-fd1b9ac8fa3f','54bc4423-2525-5238-8440-a0152bef627b','33a09b4e-1238-439e-8ef0-a02724941801','LlmProviderTemplate','mistralai','mistralai','','deployed',X'D625FA016845333E600743FDB3B4575B5FEB5CBB4529C6CB97C5335474F4D22552C4B79EBBB51C101FD8340DBB148740C42353338AA79F400761ADC9C1051000DF7DA4462BC461C74C95578DD749AF39B701AEFCD8DA9C2906AA69E6519D8090D9CE8E06B32830D29FBE8721A93A26BE4235A072256FDA3604319F21752DB4C3FBD8020E8E02A6C1648FD72D7B8C2B62ECECE9B088FFEFD7FBE40427B7E78C33543354A5704B37868734CA1ED3837C121F9B2760510788B36D07','2026-01-01T00:00:00.000Z','2026-11-25 18:01:32.978523+00:00','2026-11-25 18:01:32.978534+00:00');
INSERT INTO "gatecast_imported_artifacts" VALUES('a8c18c8c-f51b-4f26-85f1-fd1b9ac8fa3f','8c2164b3-05ba-5352-82c9-43b8614fb93b','6629ef4c-a8a1-4c75-92cd-de4513eeef58','LlmProviderTemplate','gemini','gemini','','deployed',X'D625FA011A7FC758A1A86FB67B9C0CE6BF57941BC0F6CCBE9303DD63F76C1CC372DCFD4EE0C51A9378542458A7E2F50BE44B94F80A9B2786BD7C0FC770879F64D00290D449448866BA79C0FFE5937AC8347FB10F72CAD8BFAF360624FD2298008394E71AF6C20F5EF3934376EBEDF791EB947A8D375890605C684725C5AD4BA34D9C86727BBC9FF49E12FE8A80FA144DEDBE8E96706FA71A05D0A685DCE4EFE34AFE5F48E89B999BE2C609045071F061F0E0F029','2026-01-01T00:00:00.000Z','2026-11-25 18:01:32.978785+00:00','2026-11-25 18:01:32.978794+00:00');
INSERT INTO "gatecast_imported_artifacts" VALUES('a8c18c8c-f51b-4f26-85f1-fd1b9ac8fa3f','944ecf4e-ff8a-5a1e-a9fa-7b8e8d9f432a','25187165-8610-4ba5-af2b-7b261f968b19','LlmProviderTemplate','azure-openai','azure-openai','','deployed',X'D625FA01188F15DA5D679EF43DBE16B1C896A255DC0162F6534435FCCB2D31B50CC321C364D18D4D0CBDD7538B9CFFBE90BF414BDFA9355739015C27010CD4D41D415A228C1C52DC4DDCA94EE473C4BF0B542E6AA9C3B344AF1E6806C824126E202AD44B2BC18777BA5F0168E45C2E49C715F832D0C078DF94196F993E12EE7B2664D54010056B8BA323BBE12B63246FA4B505A280933243402D7C240DCD5A3D33E6B336C424F33F503A3D0C387DD83CA3AA11E3102535B135202CC18D57F32B','2026-01-01T00:00:00.000Z','2026-11-25 18:01:32.979038+00:00','2026-11-25 18:01:32.979047+00:00');
INSERT INTO "gatecast_imported_artifacts" VALUES('a8c18c8c-f51b-4f26-85f1-fd1b9ac8fa3f','c140e208-7943-5647-9d21-0e4c8409f318','eab441b9-7db2-4bf7-98cd-ff0bd9e7dff2','LlmProviderTemplate','azureai-foundry','azureai-foundry','','deployed',X'D625FA01B610021B19D3E1E981A3FDE75DD42B1C65939B00E29973F26B1C4C3113FCCF14A6C15AEB560496A94FBF9A2591A7BA6EE1C84FD30F42215FC59F00E31953E7C812B7050644776458053039A53712EDFE2A9554DD81AFB43DCF3276FB4CF511DD29755819C26D0E96DD3D8D09EC03BD92F1842AAA13366DABFA2FB9B68FB238B6A6541898AC74B5F6E96F279762041DE1914B8B198F3F05B2D59D2E652C3128A33D028FA7D174E4F67C69079B03483087DEA7BA779D34C147CDA00765086D8B69E449','2026-01-01T00:00:00.000Z','2026-11-25 18:01:32.979649+00:00','2026-11-25 18:01:32.979658+00:00');
INSERT INTO "gatecast_imported_artifacts" VALUES('a8c18c8c-f51b-4f26-85f1-fd1b9ac8fa3f','4f10ec27-23ea-5dc2-8a59-bae23e0fd722','754d6194-7cc2-4fb0-93e7-1eb0468de0e5','LlmProviderTemplate','awsbedrock','awsbedrock','','deployed',X'D625FA01EDFC30EE4DB9CFC3FED20558CB0972974C653A32F323ED90797A06C15D7B038953B7DFA36431B0D8F370293E941AE4CA478A6EE1D3AEF41C3EB673718F504F2339EA3BE5F3C9E2B455AAC064DCD0B3C9FB28EDE55BCB0A253DE8E83AA1DE150764A6E2603CB42AFCB9E28945690E276A48BBD19D23B2ADCFF111F4F946B5B5F01515FC9199D636655FF49BBF2B82D4236EF38AC77C90A46E666808078BC2688204306186F93471F162578CAF52AE9C429BE4297BF4717538','2026-01-01T00:00:00.000Z','2026-11-25 18:01:32.980028+00:00','2026-11-25 18:01:32.980036+00:00');
CREATE TABLE gatecast_llm_provider_templates (
    organization text NOT NULL,
    handle       text NOT NULL,
    document     text NOT NULL,
    version      bigint NOT NULL,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    PRIMARY KEY (organization, handle)
);
CREATE TABLE gatecast_organizations (
    id text PRIMARY KEY
);
INSERT INTO "gatecast_organizations" VALUES('default');
CREATE TABLE gatecast_placements (
    artifact_id   text NOT NULL,
    gateway_id    text NOT NULL REFERENCES gatecast_gateways (id) ON DELETE CASCADE,
    kind          text NOT NULL,
    -- DEPLOYED, UNDEPLOYED or DELETED.
    desired       text NOT NULL,
    deployment_id text NOT NULL,
    -- Of the last event; the next one is later, whatever the clocks say.
    performed_at  bigint NOT NULL,
    event_id      text NOT NULL,
    -- The deployment that the gateway said it has; empty when that is not known.
    held          text NOT NULL,
    PRIMARY KEY (artifact_id, gateway_id)
);
INSERT INTO "gatecast_placements" VALUES('471802d0-b999-4d16-a40c-6a3c5bec3ed1','a8c18c8c-f51b-4f26-85f1-fd1b9ac8fa3f','LlmProvider','DEPLOYED','427331b8-edbe-40af-8907-00dfcb88c84f',1795629693048,'036c057e-55db-4991-8811-a2e855fe4e5a','427331b8-edbe-40af-8907-00dfcb88c84f');
INSERT INTO "gatecast_placements" VALUES('471802d0-b999-4d16-a40c-6a3c5bec3ed1','c7ffea61-6183-42b9-8117-6cfc8181b847','LlmProvider','DEPLOYED','171a13b2-4046-4528-8be0-a86a0f401cee',1795629693049,'cc140bd4-0a4d-41ed-8857-53f3faf6d48d','');
CREATE TABLE gatecast_secrets (
    handle      text PRIMARY KEY,
    artifact_id text NOT NULL REFERENCES gatecast_artifacts (id) ON DELETE CASCADE,
    value       bytea NOT NULL,
    created_at  timestamptz NOT NULL
);
INSERT INTO "gatecast_secrets" VALUES('gatecast-ec0f9690-b383-4a4d-a4a0-f4ec50f0f474','471802d0-b999-4d16-a40c-6a3c5bec3ed1',X'D625FA01250E46027C3203DC8ED68772E35CA583FE11338A06DBCE8C5A4FC66B16BB82D2303824138720D0980DCE36027C64A6','2026-11-25 18:01:33.044412+00:00');
CREATE TABLE gatecast_subscription_records (
    gateway_id text NOT NULL REFERENCES gatecast_gateways (id) ON DELETE CASCADE,
    kind       text NOT NULL,
    id         text NOT NULL,
    api_id     text NOT NULL,
    body       bytea NOT NULL,
    version    bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (gateway_id, kind, id)
);
CREATE TABLE gateway_streams (
    gateway_id      text PRIMARY KEY,
    -- A gateway that is registered again has another log: what is left of the first one is none of its business.
    log_id          integer NOT NULL,
    head            integer NOT NULL DEFAULT 0,
    trimmed_through integer NOT NULL DEFAULT 0,
    registered_in   text NOT NULL,
    changed_seq     integer NOT NULL
) WITHOUT ROWID;
INSERT INTO "gateway_streams" VALUES('a8c18c8c-f51b-4f26-85f1-fd1b9ac8fa3f',1,2,0,'2a13b066-b820-40ba-9ff0-22c9bf9e96db',7);
INSERT INTO "gateway_streams" VALUES('c7ffea61-6183-42b9-8117-6cfc8181b847',2,5,0,'2a13b066-b820-40ba-9ff0-22c9bf9e96db',7);
CREATE TABLE outcomes (
    log_id      integer NOT NULL,
    "offset"    integer NOT NULL,
    replica     text NOT NULL,
    kind        text NOT NULL
                CHECK (kind IN ('applied', 'rejected', 'parked', 'held', 'retried', 'skipped', 'released')),
    reason      text NOT NULL,
    recorded_at text NOT NULL,
    PRIMARY KEY (log_id, "offset", replica)
) WITHOUT ROWID;
INSERT INTO "outcomes" VALUES(1,1,'','applied','','2026-11-25 18:01:33.176382+00:00');
CREATE TABLE pods (
    pod_id      text PRIMARY KEY,
    lease_until text NOT NULL,
    -- Of this row: a pod that was forgotten and comes back has another one.
    life        text NOT NULL
) WITHOUT ROWID;
INSERT INTO "pods" VALUES('pod-1','2026-11-25 18:01:40.908324+00:00','1923669a-ddee-403a-be66-907b4fab8ca4');
CREATE TABLE schema_migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    applied_at text NOT NULL
);
INSERT INTO "schema_migrations" VALUES(1,'event_log','2026-11-25 18:01:32.752684+00:00');
INSERT INTO "schema_migrations" VALUES(1001,'gateways','2026-11-25 18:01:32.753548+00:00');
INSERT INTO "schema_migrations" VALUES(1002,'artifacts','2026-11-25 18:01:32.756082+00:00');
CREATE INDEX gateway_streams_changed ON gateway_streams (changed_seq);
CREATE UNIQUE INDEX events_event_id ON events (log_id, event_id);
CREATE INDEX connections_gateway ON connections (gateway_id, replica);
CREATE INDEX connections_pod ON connections (pod_id, dismissal);
CREATE INDEX connections_holding ON connections (pod_id) WHERE NOT released;
CREATE INDEX connections_token ON connections (token_id) WHERE token_id IS NOT NULL;
CREATE INDEX outcomes_parking ON outcomes (log_id, replica, kind, "offset")
    WHERE kind IN ('parked', 'held', 'retried', 'skipped', 'released', 'rejected');
CREATE INDEX gatecast_gateway_tokens_gateway ON gatecast_gateway_tokens (gateway_id);
CREATE INDEX gatecast_secrets_artifact ON gatecast_secrets (artifact_id);
CREATE INDEX gatecast_contents_artifact ON gatecast_contents (artifact_id);
CREATE INDEX gatecast_content_needs_provider ON gatecast_content_needs (provider_id);
CREATE INDEX gatecast_placements_gateway ON gatecast_placements (gateway_id);
CREATE INDEX gatecast_deployments_content ON gatecast_deployments (content_id);
CREATE INDEX gatecast_deployments_gateway ON gatecast_deployments (gateway_id);
CREATE UNIQUE INDEX gatecast_api_keys_name ON gatecast_api_keys (artifact_id, name) WHERE revoked_at IS NULL;
COMMIT;
