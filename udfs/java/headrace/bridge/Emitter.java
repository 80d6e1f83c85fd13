package headrace.bridge;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.codegen.CodeBlock;
import org.apache.spark.sql.catalyst.expressions.codegen.CodeGenerator;
import org.apache.spark.sql.catalyst.expressions.codegen.CodegenContext;
import org.apache.spark.sql.catalyst.expressions.codegen.ExprCode;
import org.apache.spark.sql.types.DataType;
import scala.jdk.javaapi.CollectionConverters;

/** Generates the Java source of one call for Spark's generated classes. */
final class Emitter {
    private final Invocation call;
    private final Bound bound;
    private final CodegenContext context;
    private final ExprCode code;
    private final List<ExprCode> inputs = new ArrayList<>();
    private final String boundField;

    Emitter(Invocation call, CodegenContext context, ExprCode code) {
        this.call = call;
        this.bound = call.bound();
        this.context = context;
        this.code = code;
        call.arguments().forEach(argument -> inputs.add(argument.genCode(context)));
        boundField = context.addReferenceObj("bound", bound, Bound.class.getName());
    }

    ExprCode emit() {
        DataType type = call.dataType();
        String javaType = CodeGenerator.javaType(type);
        StringBuilder text = new StringBuilder();
        inputs.forEach(input -> text.append(input.code()).append('\n'));
        text.append("boolean ").append(code.isNull()).append(" = true;\n");
        text.append(javaType).append(' ').append(code.value()).append(" = ")
                .append(CodeGenerator.defaultValue(type, false)).append(";\n");
        String cause = context.freshName("cause");
        if (call.tally() != null) {
            text.append(causeIs(cause, Cause.DATA, Cause.class.getName() + " "));
        }
        text.append("if (").append(requiredThere()).append(") {\ntry {\n")
                .append(body(cause))
                .append("} catch (Throwable error) {\n")
                .append(code.isNull()).append(" = true;\n")
                .append(boundField).append(".failed(error, ").append(values()).append(", ").append(call.failing())
                .append(");\n")
                .append(call.tally() == null ? "" : causeIs(cause, Cause.FAILURE, ""))
                .append("}\n}\n");
        if (call.tally() != null) {
            text.append(count(cause));
        }
        return code.copy(block(text.toString()), code.isNull(), code.value());
    }

    private static CodeBlock block(String text) {
        return new CodeBlock(
                CollectionConverters.<String>asScala(List.of(text)).toIndexedSeq(),
                CollectionConverters.<org.apache.spark.sql.catalyst.expressions.codegen.JavaCode>asScala(List.of())
                        .toIndexedSeq());
    }

    private static String causeIs(String variable, Cause cause, String declared) {
        return declared + variable + " = " + Cause.class.getName() + "." + cause.name() + ";\n";
    }

    private String requiredThere() {
        List<String> there = new ArrayList<>();
        for (int i = 0; i < inputs.size(); i++) {
            if (!bound.shape(i).isOptional()) {
                there.add("!" + inputs.get(i).isNull());
            }
        }
        return there.isEmpty() ? "true" : String.join(" && ", there);
    }

    private String body(String cause) {
        StringBuilder text = new StringBuilder();
        List<String> names = new ArrayList<>();
        List<String> partial = new ArrayList<>();
        for (int i = 0; i < inputs.size(); i++) {
            String name = context.freshName("argument");
            names.add(name);
            text.append(declared(bound.shape(i), name, argument(i)));
            if (bound.reader(i).partial() && !bound.shape(i).isOptional()) {
                partial.add(name + " != null");
            }
        }
        String result = context.freshName("result");
        Shape shape = bound.signature().result();
        if (!partial.isEmpty()) {
            text.append("if (").append(String.join(" && ", partial)).append(") {\n");
        }
        String called = "(" + Inline.typeName(shape) + ") " + staticCall(names);
        text.append(declared(shape, result, called)).append(result(shape, result));
        if (call.tally() != null) {
            text.append("if (!").append(code.isNull()).append(") ").append(causeIs(cause, Cause.NONE, ""))
                    .append("else if (").append(someThere()).append(") ").append(causeIs(cause, Cause.ALGORITHM, ""));
        }
        return text.append(partial.isEmpty() ? "" : "}\n").toString();
    }

    private static String declared(Shape shape, String name, String value) {
        return Inline.typeName(shape) + " " + name + " = " + value + ";\n";
    }

    private String staticCall(List<String> names) {
        Class<?> owner = bound.signature().method().getDeclaringClass();
        List<String> passed = new ArrayList<>(names);
        if (bound.spread()) {
            int fixed = bound.signature().parameters().size() - 1;
            Shape tail = bound.signature().parameters().get(fixed);
            List<String> many = passed.subList(fixed, passed.size());
            String array = "new " + Inline.typeName(tail) + " {" + String.join(", ", many) + "}";
            passed = new ArrayList<>(passed.subList(0, fixed));
            passed.add(array);
        }
        return owner.getCanonicalName() + "." + bound.routine().methodName() + "(" + String.join(", ", passed) + ")";
    }

    private String argument(int i) {
        Shape shape = bound.shape(i);
        ExprCode input = inputs.get(i);
        String value = input.value().toString();
        String inline = Inline.read(shape, bound.reader(i), value);
        String read = inline != null ? inline : readBy(reader(i), i, value);
        return shape.isOptional()
                ? "(" + input.isNull() + " ? " + Inline.typeName(shape) + ".empty() : " + read + ")"
                : read;
    }

    private String readBy(String reader, int i, String value) {
        Shape shape = bound.shape(i);
        String read = reader + ".read(" + Inline.boxed(bound.reader(i).sql, value) + ")";
        return shape.raw().isPrimitive()
                ? "((" + Inline.wrapper(shape.raw()) + ") " + read + ")." + shape.raw().getName() + "Value()"
                : "(" + Inline.typeName(shape) + ") " + read;
    }

    private String reader(int i) {
        return field(Reader.class, "reader", ".reader(" + i + ")");
    }

    /** A field of the generated class that is set once, from the bound function. */
    private String field(Class<?> type, String name, String getter) {
        return context.addMutableState(
                type.getName(), name, variable -> variable + " = " + boundField + getter + ";", true, true);
    }

    private String result(Shape shape, String result) {
        String value = result;
        if (shape.isOptional()) {
            String part = shape.part().raw().getName();
            value = shape.raw() == Optional.class
                    ? "((" + Inline.typeName(shape.part()) + ") " + result + ".get())"
                    : result + ".getAs" + part.substring(0, 1).toUpperCase(Locale.ROOT) + part.substring(1) + "()";
        }
        String inline = Inline.write(shape.isOptional() ? shape.part() : shape, value);
        if (inline == null) {
            return writeBy(field(Writer.class, "writer", ".writer()"), result);
        }
        return shape.isOptional() ? "if (" + result + ".isPresent()) {\n" + set(inline) + "}\n" : set(inline);
    }

    private String writeBy(String writer, String result) {
        String written = context.freshName("written");
        DataType type = call.dataType();
        String value = "(" + CodeGenerator.boxedType(type) + ") " + written;
        String unboxed = CodeGenerator.isPrimitiveType(type)
                ? "(" + value + ")." + CodeGenerator.javaType(type) + "Value()" : value;
        return "Object " + written + " = " + writer + ".write(" + result + ");\n"
                + "if (" + written + " != null) {\n" + set(unboxed) + "}\n";
    }

    private String set(String value) {
        return code.value() + " = " + value + ";\n" + code.isNull() + " = false;\n";
    }

    /** The arguments as an array of objects, for error messages. */
    private String values() {
        List<String> values = new ArrayList<>();
        for (int i = 0; i < inputs.size(); i++) {
            ExprCode input = inputs.get(i);
            String boxed = Inline.boxed(bound.reader(i).sql, input.value().toString());
            values.add(input.isNull() + " ? null : (Object) " + boxed);
        }
        return "new Object[] {" + String.join(", ", values) + "}";
    }

    private String someThere() {
        List<String> there = new ArrayList<>();
        for (int i = 0; i < inputs.size(); i++) {
            if (!call.arguments().get(i).foldable()) {
                there.add("!" + inputs.get(i).isNull());
            }
        }
        return there.isEmpty() ? "false" : String.join(" || ", there);
    }

    private String count(String cause) {
        String tally = context.addReferenceObj("tally", call.tally(), Tally.class.getName());
        String none = Cause.class.getName() + "." + Cause.NONE.name();
        String found = "if (" + cause + " == " + none + ") {\n" + tally + ".found();\n} else {\n";
        Expression key = call.key();
        if (key == null) {
            return found + tally + ".count(" + cause + ", null);\n}\n";
        }
        ExprCode keyCode = key.genCode(context);
        String boxed = Inline.boxed(key.dataType(), keyCode.value().toString());
        return found + keyCode.code() + "\n" + tally + ".count(" + cause + ", "
                + keyCode.isNull() + " ? null : (Object) " + boxed + ");\n}\n";
    }
}
