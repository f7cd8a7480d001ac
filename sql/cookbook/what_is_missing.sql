-- What is missing in each column of a relation, and what lies between its least and greatest value?
--
-- Null is the only absence there is. Any relation, or a query in brackets, can stand here.
summarize core.requests;
