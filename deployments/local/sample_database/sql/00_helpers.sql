-- Functions of this session only: what the data is made of. They hold the seed and the number of rows as constants, so that the planner folds them
-- into the INSERTs; no random(), whose generator differs between majors.

DO $$
DECLARE
    seed bigint := current_setting('sample.seed')::bigint;
    row_count bigint := current_setting('sample.rows')::bigint;
    words text[] := string_to_array(
        'account address agenda agreement alert amount analysis answer approval archive article attempt audit backlog balance baseline batch billing '
        'board branch budget build calendar call campaign card change channel chart checklist client column comment commit company conference '
        'contract copy cost course credit customer dashboard data deadline decision default delivery demand deployment design detail device digest '
        'discount document domain draft duration edition effort email endpoint engineer entry error estimate event evidence example exception '
        'exercise export failure feature feedback field figure filter finding folder forecast form format founder function gateway goal graph group '
        'growth guide header history hour idea image impact import incident index industry input insight instance integration interview invoice '
        'issue item job journal key label language launch layer lead ledger lesson level library limit link list log machine manager market meeting '
        'member memo message method metric migration milestone minute model module month network note notice number object offer office onboarding '
        'operation option order origin outage outcome owner package page panel partner password patch path pattern payment performance permission '
        'phase pipeline plan platform policy pool portfolio position post price priority process product profile program project promise proposal '
        'prototype quality quarter query question queue quota range rate reason receipt record refund region release reminder renewal report request '
        'research reserve response result review revision reward risk road role rollout route rule run sample scale schedule schema scope screen '
        'search season section segment sender series service session setting share shift signal site skill snapshot source space sprint staff stage '
        'standard status step storage strategy stream study subject summary support survey system table target task team template tenant term test '
        'ticket time title token tool topic total trace track trade traffic trend trial trigger update upgrade usage user value vendor version view '
        'visit volume waiting warning webhook week window workflow workspace year zone', ' ');
    small text[] := string_to_array('the a of and to in for with on by from as at is was are were has had that which this our their no new first last after before until while', ' ');
BEGIN
    EXECUTE format($f$CREATE FUNCTION pg_temp.row_count() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT %s::bigint'$f$, row_count);
    EXECUTE format($f$CREATE FUNCTION pg_temp.organization_count() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT %s::bigint'$f$, greatest(3, row_count / 20));
    -- A number of 62 bits from a number and a purpose.
    EXECUTE format($f$CREATE FUNCTION pg_temp.h(bigint, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
        AS 'SELECT hashint8extended($1, $2 + %s) & 4611686018427387903'$f$, seed * 1000);
    EXECUTE format($f$CREATE FUNCTION pg_temp.id_of(text, bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
        AS 'SELECT md5($1 || $2::text || '':%s'')::uuid'$f$, seed);
    -- Arrays of name have elements of one length, so that picking one does not walk the array. The product of two even numbers prefers small ones, as
    -- language does.
    EXECUTE format($f$CREATE FUNCTION pg_temp.word(bigint) RETURNS text LANGUAGE sql IMMUTABLE
        AS $q$SELECT ('{%s}'::name[])[1 + ((($1 & 1023) * (($1 >> 10) & 1023) * %s) >> 20)]::text$q$ $f$, array_to_string(words, ','), cardinality(words));
    EXECUTE format($f$CREATE FUNCTION pg_temp.small_word(bigint) RETURNS text LANGUAGE sql IMMUTABLE
        AS $q$SELECT ('{%s}'::name[])[1 + ($1 & 31)]::text$q$ $f$, array_to_string(small, ','));
END
$$;

CREATE FUNCTION pg_temp.phrase(bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
'SELECT pg_temp.word($1) || '' '' || pg_temp.small_word($1 >> 20) || '' '' || pg_temp.word($1 >> 25)';

-- Which of the users or organizations a row belongs to: at any time about a thousand are busy, some much more than others, and others are later.
CREATE FUNCTION pg_temp.busy(at bigint, h bigint, among bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
'SELECT 1 + (at + (((h & 1023) * ((h >> 10) & 1023)) >> 10)) % among';

-- A loop, because a function of SQL with an aggregate is planned anew for each row.
CREATE FUNCTION pg_temp.words(about bigint, salt bigint, phrases int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    h bigint;
    words text := '';
BEGIN
    FOR n IN 1..phrases LOOP
        h := pg_temp.h(about * 64 + n, salt);
        words := words || pg_temp.phrase(h) || CASE WHEN h & 7 = 0 THEN '. ' ELSE ' ' END;
    END LOOP;
    RETURN words;
END
$$;

CREATE FUNCTION pg_temp.first_name(bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT (ARRAY['Ada', 'Alan', 'Amina', 'André', 'Anna', 'Ben', 'Carla', 'Chidi', 'Chloé', 'Dmitri', 'Edsger', 'Elena', 'Emil', 'Farid', 'Grace', 'Hana',
              'Hedy', 'Ines', 'Ivan', 'Jia', 'João', 'Jonas', 'Katherine', 'Kofi', 'Lars', 'Leila', 'Linus', 'Lucía', 'Mads', 'Maria', 'Mei', 'Mohammed',
              'Nadia', 'Nils', 'Noor', 'Olga', 'Omar', 'Paula', 'Priya', 'Rosa', 'Sana', 'Søren', 'Tariq', 'Tim', 'Uma', 'Vera', 'Wei', 'Yuki', 'Zoë']
             ::name[])[1 + $1 % 49]::text
$$;

CREATE FUNCTION pg_temp.last_name(bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT (ARRAY['Abe', 'Adeyemi', 'Almeida', 'Andersen', 'Bauer', 'Berg', 'Brown', 'Castillo', 'Chen', 'Cohen', 'Costa', 'Diaz', 'Dubois', 'Eriksson',
              'Fischer', 'Fontaine', 'Garcia', 'Gómez', 'Haddad', 'Hansen', 'Hernández', 'Hopper', 'Ito', 'Jansen', 'Johnson', 'Kaya', 'Khan', 'Kim',
              'Kowalska', 'Kumar', 'Lee', 'Lindqvist', 'Lopez', 'Lovelace', 'Martin', 'Mbeki', 'Moreau', 'Müller', 'Nguyen', 'Nowak', 'O''Brien', 'Okafor',
              'Olsen', 'Park', 'Patel', 'Pérez', 'Petrov', 'Ramos', 'Rossi', 'Sánchez', 'Sato', 'Schmidt', 'Silva', 'Singh', 'Smith', 'Tanaka', 'Torres',
              'Turing', 'Weber', 'Wong', 'Yilmaz', 'Zhang']::name[])[1 + $1 % 62]::text
$$;
