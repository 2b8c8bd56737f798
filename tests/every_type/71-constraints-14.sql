-- since: 14
-- Statistics of expressions, and a function whose body is parsed when it is made.
CREATE STATISTICS zoo.expressed ON (lower(t)), (id % 3) FROM zoo.indexed;
CREATE FUNCTION zoo.next(a int) RETURNS int LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN a + 1;
