BEGIN TRANSACTION;
CREATE TABLE beats (id INTEGER PRIMARY KEY, at REAL NOT NULL);
INSERT INTO "beats" VALUES(1,1.7959734183366184235e+09);
CREATE TABLE cards (
        channel TEXT NOT NULL,
        run_id INTEGER NOT NULL REFERENCES runs (id),
        message_id TEXT NOT NULL,
        closed INTEGER NOT NULL,
        PRIMARY KEY (channel, run_id)
    ) WITHOUT ROWID;
CREATE TABLE cursors (channel TEXT PRIMARY KEY, event_id INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE deliveries (
        channel TEXT NOT NULL,
        event_id INTEGER NOT NULL REFERENCES events (id),
        state TEXT NOT NULL,
        message_id TEXT NOT NULL,
        reason TEXT NOT NULL,
        at REAL NOT NULL,
        PRIMARY KEY (channel, event_id)
    ) WITHOUT ROWID;
CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        run_id INTEGER NOT NULL REFERENCES runs (id),
        number INTEGER,
        kind TEXT NOT NULL,
        data TEXT NOT NULL
    );
INSERT INTO "events" VALUES(1,1.79597341305747675898e+09,1,NULL,'run_started','{}');
INSERT INTO "events" VALUES(2,1.79597341337840461731e+09,1,0,'proposed','{}');
INSERT INTO "events" VALUES(3,1.795973413378772974e+09,1,0,'committed','{}');
INSERT INTO "events" VALUES(4,1.79597341337905716898e+09,1,0,'training','{}');
INSERT INTO "events" VALUES(5,1.79597341408367133135e+09,1,0,'measured','{}');
INSERT INTO "events" VALUES(6,1.79597341410922622679e+09,1,0,'decided','{}');
INSERT INTO "events" VALUES(7,1.79597341414503288269e+09,1,1,'proposed','{}');
INSERT INTO "events" VALUES(8,1.79597341414520621305e+09,1,1,'committed','{}');
INSERT INTO "events" VALUES(9,1.79597341414535212516e+09,1,1,'training','{}');
INSERT INTO "events" VALUES(10,1.79597341438208341598e+09,1,1,'measured','{}');
INSERT INTO "events" VALUES(11,1.79597341444792890545e+09,1,1,'decided','{}');
INSERT INTO "events" VALUES(12,1.79597341479330253606e+09,1,2,'proposed','{}');
INSERT INTO "events" VALUES(13,1.79597341479353070263e+09,1,2,'committed','{}');
INSERT INTO "events" VALUES(14,1.7959734147936787605e+09,1,2,'training','{}');
INSERT INTO "events" VALUES(15,1.79597341496469259259e+09,1,2,'measured','{}');
INSERT INTO "events" VALUES(16,1.79597341496484589574e+09,1,2,'decided','{}');
INSERT INTO "events" VALUES(17,1.79597341511781835553e+09,1,3,'proposed','{}');
INSERT INTO "events" VALUES(18,1.79597341511798024179e+09,1,3,'committed','{}');
INSERT INTO "events" VALUES(19,1.79597341511812043195e+09,1,3,'training','{}');
INSERT INTO "events" VALUES(20,1.79597341528558230401e+09,1,3,'measured','{}');
INSERT INTO "events" VALUES(21,1.79597341528574252133e+09,1,3,'decided','{}');
INSERT INTO "events" VALUES(22,1.79597341566021513939e+09,1,4,'proposed','{}');
INSERT INTO "events" VALUES(23,1.79597341566047143937e+09,1,4,'committed','{}');
INSERT INTO "events" VALUES(24,1.7959734156606211663e+09,1,4,'training','{}');
INSERT INTO "events" VALUES(25,1.79597341594673585887e+09,1,4,'skip_requested','{}');
INSERT INTO "events" VALUES(26,1.79597341598239612584e+09,1,4,'interrupted','{"reason": "by command", "vanished": false}');
INSERT INTO "events" VALUES(27,1.79597341598962330824e+09,1,4,'decided','{}');
INSERT INTO "events" VALUES(28,1.79597341599667835237e+09,1,5,'proposed','{}');
INSERT INTO "events" VALUES(29,1.79597341599684023859e+09,1,5,'committed','{}');
INSERT INTO "events" VALUES(30,1.79597341599697971339e+09,1,5,'training','{}');
INSERT INTO "events" VALUES(31,1.79597341622593593599e+09,1,5,'measured','{}');
INSERT INTO "events" VALUES(32,1.79597341626136136052e+09,1,5,'decided','{}');
INSERT INTO "events" VALUES(33,1.79597341665042877197e+09,1,6,'proposed','{}');
INSERT INTO "events" VALUES(34,1.79597341665058755875e+09,1,6,'committed','{}');
INSERT INTO "events" VALUES(35,1.79597341665073180201e+09,1,6,'training','{}');
INSERT INTO "events" VALUES(36,1.79597341687721371653e+09,1,NULL,'run_state','{"state": "paused", "reason": "by command"}');
INSERT INTO "events" VALUES(37,1.79597341691515159601e+09,1,6,'interrupted','{"reason": "by command", "vanished": false}');
INSERT INTO "events" VALUES(38,1.7959734169270648957e+09,1,NULL,'run_state','{"state": "running", "reason": "by command"}');
INSERT INTO "events" VALUES(39,1.79597341693489789965e+09,1,6,'training','{}');
INSERT INTO "events" VALUES(40,1.79597341716972875593e+09,1,6,'measured','{}');
INSERT INTO "events" VALUES(41,1.79597341722915458681e+09,1,6,'decided','{}');
INSERT INTO "events" VALUES(42,1.7959734174292225837e+09,1,7,'proposed','{}');
INSERT INTO "events" VALUES(43,1.79597341742942214013e+09,1,7,'committed','{}');
INSERT INTO "events" VALUES(44,1.79597341742956757544e+09,1,7,'training','{}');
INSERT INTO "events" VALUES(45,1.79597341745443296427e+09,1,NULL,'run_state','{"state": "paused", "reason": "by command"}');
INSERT INTO "events" VALUES(46,1.79597341761300730708e+09,1,7,'interrupted','{"reason": "by command", "vanished": false}');
INSERT INTO "events" VALUES(47,1.79597341762910294536e+09,1,NULL,'run_state','{"state": "running", "reason": "by command"}');
INSERT INTO "events" VALUES(48,1.79597341764626121526e+09,1,7,'training','{}');
INSERT INTO "events" VALUES(49,1.79597341831408929824e+09,2,NULL,'run_started','{}');
INSERT INTO "events" VALUES(50,1.7959734183259601593e+09,2,NULL,'run_state','{"state": "stopped", "reason": "by command"}');
CREATE TABLE experiments (
        run_id INTEGER NOT NULL REFERENCES runs (id),
        number INTEGER NOT NULL,
        stage TEXT NOT NULL,
        description TEXT NOT NULL,
        rationale TEXT NOT NULL,
        proposer TEXT NOT NULL,
        parent TEXT NOT NULL,
        "commit" TEXT NOT NULL,
        constants TEXT NOT NULL,
        lines_added INTEGER NOT NULL,
        lines_removed INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        supervisor_pid INTEGER,
        supervisor_started REAL,
        skip_requested INTEGER NOT NULL,
        proposed_at REAL NOT NULL,
        started_at REAL,
        ended_at REAL,
        decided_at REAL,
        ending TEXT,
        exit_code INTEGER,
        numbers TEXT NOT NULL,
        error TEXT NOT NULL,
        value REAL,
        best_before REAL,
        status TEXT,
        reason TEXT NOT NULL, idea INTEGER REFERENCES ideas (id), expected TEXT NOT NULL DEFAULT '', family TEXT, repairs INTEGER, cost TEXT, program TEXT NOT NULL DEFAULT '', waited REAL NOT NULL DEFAULT 0,
        PRIMARY KEY (run_id, number)
    ) WITHOUT ROWID;
INSERT INTO "experiments" VALUES(1,0,'decided','baseline','the program as it is','baseline','19fb4700afcf0a27fb2a33203d6be47be62f3642','19fb4700afcf0a27fb2a33203d6be47be62f3642','{}',0,0,1,NULL,NULL,0,1.79597341334481883047e+09,1.79597341379554581637e+09,1.79597341406411361696e+09,1.79597341408327603341e+09,'exited',0,'{"val_bpb": 1.5, "training_seconds": 1.0, "total_seconds": 2.0, "peak_vram_mb": 512.0}','',1.5,NULL,'keep','the first number',NULL,'',NULL,NULL,NULL,'93a9f1cab849012837ad5ef3283c57f2',0.0);
INSERT INTO "experiments" VALUES(1,1,'decided','idea 1','because','ideas','19fb4700afcf0a27fb2a33203d6be47be62f3642','2c6a1251ffa9f2ceda37217a969e38cb642c6dcf','{}',1,1,1,NULL,NULL,0,1.79597341412505602832e+09,1.7959734141664326191e+09,1.79597341437725853919e+09,1.79597341438173413279e+09,'exited',0,'{"val_bpb": 1.4, "training_seconds": 1.0, "total_seconds": 2.0, "peak_vram_mb": 512.0}','',1.4,1.5,'keep','improved',NULL,'',NULL,NULL,NULL,'acb14af75ebc4504f7801592e66ff5e5',0.0);
INSERT INTO "experiments" VALUES(1,2,'decided','idea 2','because','ideas','2c6a1251ffa9f2ceda37217a969e38cb642c6dcf','7fa61b3993532e90a4bdbc8e2bf52a99dca7357e','{}',1,1,1,NULL,NULL,0,1.79597341478120970728e+09,1.79597341481847977634e+09,1.7959734149605836868e+09,1.79597341496426582329e+09,'exited',1,'{}','RuntimeError: no such luck',NULL,1.4,'crash','exit status 1',NULL,'',NULL,NULL,NULL,'d949b481b5bcc23548b2800064d3ede0',2.63776381000070614391e-01);
INSERT INTO "experiments" VALUES(1,3,'decided','idea 3','because','ideas','2c6a1251ffa9f2ceda37217a969e38cb642c6dcf','eb2693de8119d8bbfa4234d8e7f9893ba5076151','{}',1,1,1,NULL,NULL,0,1.79597341510264182093e+09,1.79597341512700343132e+09,1.79597341528130245201e+09,1.79597341528492331508e+09,'exited',0,'{"val_bpb": 1.6, "training_seconds": 1.0, "total_seconds": 2.0, "peak_vram_mb": 512.0}','',1.6,1.4,'discard','worse',NULL,'',NULL,NULL,NULL,'b4682dc6565cd58e43130bdf1037aba3',1.30556222999985038768e-01);
INSERT INTO "experiments" VALUES(1,4,'decided','idea 4','because','ideas','2c6a1251ffa9f2ceda37217a969e38cb642c6dcf','d9f327a6c2e427bc587f894a79be2ec83f7d67c0','{}',1,1,1,NULL,NULL,1,1.79597341565778851509e+09,1.79597341565789079664e+09,NULL,1.79597341598919558527e+09,NULL,NULL,'{}','',NULL,1.4,'skip','skipped by command',NULL,'',NULL,NULL,NULL,'a4b0f814f5e0fec13dc7cb9cf8f88e3b',3.65271760000041467719e-01);
INSERT INTO "experiments" VALUES(1,5,'decided','idea 5','because','ideas','2c6a1251ffa9f2ceda37217a969e38cb642c6dcf','95b8b8d57915616c8e5b2c5885e2904c5cafc854','{}',1,1,1,NULL,NULL,0,1.79597341599398159983e+09,1.79597341605125832564e+09,1.79597341622190570832e+09,1.79597341622552704809e+09,'exited',0,'{"val_bpb": 1.3, "training_seconds": 1.0, "total_seconds": 2.0, "peak_vram_mb": 512.0}','',1.3,1.4,'keep','improved',NULL,'',NULL,NULL,NULL,'45b0bbe1a81cf427a0ac0e1ef3940070',0.0);
INSERT INTO "experiments" VALUES(1,6,'decided','idea 6','because','ideas','95b8b8d57915616c8e5b2c5885e2904c5cafc854','2198a574ca3f066974c2b22e36218cf131909ed9','{}',2,1,2,NULL,NULL,0,1.79597341664165425297e+09,1.79597341702846360206e+09,1.79597341716439270978e+09,1.79597341716916918761e+09,'exited',0,'{"val_bpb": 1.2, "training_seconds": 1.0, "total_seconds": 2.0, "peak_vram_mb": 512.0}','',1.2,1.3,'keep','improved',NULL,'',NULL,NULL,NULL,'8a5c9d2c2d8f07368e6a4fee333587aa',2.94281031000082293758e-01);
INSERT INTO "experiments" VALUES(1,7,'training','idea 7','because','ideas','2198a574ca3f066974c2b22e36218cf131909ed9','76bd1ca52429eaa601ed60e1921e246aa877b8c5','{}',1,1,2,10917,1645.35,0,1.7959734174127860069e+09,1.79597341764107060429e+09,NULL,NULL,NULL,NULL,'{}','',NULL,NULL,NULL,'',NULL,'',NULL,NULL,NULL,'9a296360bc1d1832155efe6b4b7d94a6',1.55662527000004047295e-01);
INSERT INTO "experiments" VALUES(2,0,'decided','baseline','','before the bot','19fb4700afcf0a27fb2a33203d6be47be62f3642','19fb4700afcf0a27fb2a33203d6be47be62f3642','{}',0,0,0,NULL,NULL,0,1.79597341305661320682e+09,NULL,NULL,1.79597341305661320682e+09,'exited',NULL,'{"val_bpb": 0.9979, "peak_vram_mb": 45056.0}','',0.9979,NULL,'keep','taken over',NULL,'',NULL,NULL,NULL,'',0.0);
INSERT INTO "experiments" VALUES(2,1,'decided','wider','','before the bot','19fb4700afcf0a27fb2a33203d6be47be62f3642','b2c3d4e','{}',0,0,0,NULL,NULL,0,1.79597341305661320682e+09,NULL,NULL,1.79597341305661320682e+09,'exited',NULL,'{}','',NULL,0.9979,'crash','taken over',NULL,'',NULL,NULL,NULL,'',0.0);
CREATE TABLE ideas (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id INTEGER NOT NULL REFERENCES runs (id),
        text TEXT NOT NULL,
        author TEXT NOT NULL,
        channel TEXT NOT NULL,
        message_id TEXT NOT NULL
    , given_up TEXT NOT NULL DEFAULT '');
CREATE TABLE preferences (channel TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE requests (key TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        tag TEXT NOT NULL UNIQUE,
        repository TEXT NOT NULL,
        base_branch TEXT NOT NULL,
        base_commit TEXT NOT NULL,
        metric TEXT NOT NULL,
        goal TEXT NOT NULL,
        time_budget REAL NOT NULL,
        state TEXT NOT NULL,
        state_reason TEXT NOT NULL,
        created_at REAL NOT NULL,
        renamed_from TEXT NOT NULL
    );
INSERT INTO "runs" VALUES(1,'mar12','/old/repository','main','19fb4700afcf0a27fb2a33203d6be47be62f3642','val_bpb','minimize',300.0,'running','by command',1.79597341305661320682e+09,'');
INSERT INTO "runs" VALUES(2,'jan3','/old/repository','main','19fb4700afcf0a27fb2a33203d6be47be62f3642','val_bpb','minimize',300.0,'stopped','by command',1.79597341831336355204e+09,'');
CREATE TABLE sessions (
        id INTEGER PRIMARY KEY,
        boot TEXT NOT NULL,
        pid INTEGER NOT NULL,
        started_at REAL NOT NULL,
        seen_at REAL NOT NULL,
        ended_at REAL
    );
CREATE TABLE spends (
        id INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        run_id INTEGER NOT NULL REFERENCES runs (id),
        proposer TEXT NOT NULL,
        input_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        dollars REAL
    );
CREATE INDEX experiments_by_status ON experiments (run_id, status, number);
CREATE INDEX deliveries_to_come ON deliveries (channel, event_id) WHERE state IN ('held', 'follows');
CREATE INDEX deliveries_refused ON deliveries (at) WHERE state = 'refused';
CREATE INDEX spends_by_run ON spends (run_id, at);
CREATE INDEX experiments_by_idea ON experiments (run_id, idea) WHERE idea IS NOT NULL;
CREATE INDEX experiments_by_wait ON experiments (run_id, waited);
CREATE INDEX events_by_kind ON events (run_id, kind);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',50);
COMMIT;
PRAGMA user_version = 9;
